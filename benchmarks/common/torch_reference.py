"""Progressive cramming as published, in plain PyTorch: what jaxcram is timed against.

The procedure of Tarasov et al. 2026, "Progressive cramming" (ICML), as fast as PyTorch allows without
changing it: the Hugging Face model with sdpa attention and frozen weights, a forward pass over the current
prefix only (no padding beyond it), the head only where a target is predicted, a gradient to the memory
embedding alone, AdamW vectorised over the samples, and a sample that has failed or reached the end of its
text removed from the batch at once. The lock-step is the published one: all samples of a batch are at the
same stage, and an exact one waits there, unchanged, for the slowest.

Letters: B samples in the batch, K memory, T tokens, D width, V vocabulary, N samples in all.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from common import passes
from jaxcram.cram.lanes import Bucket


@dataclasses.dataclass(frozen=True)
class Settings:
    """The published optimiser and caps; learning rates per step, caps in steps of one sample."""

    learning_rate: float = 0.1
    min_learning_rate: float = 1e-3
    warmup_steps: int = 100
    max_steps: int = 10_000  # of one sample in all; also the length of the schedule
    max_steps_per_token: int = 1_000
    beta1: float = 0.9
    beta2: float = 0.9
    eps: float = 1e-8
    weight_decay: float = 0.01


@dataclasses.dataclass
class Outcome:
    """What a run found for each of N samples, and what it cost. A "pass" is one forward of the batch."""

    horizons: list[int]  # longest exact prefix, tokens
    stage_steps: list[list[int]]  # steps of each stage; the last is the failed one, if there was one
    passes: int = 0
    lane_passes: int = 0  # forwards of one sample: passes times the samples then in the batch
    lane_steps: int = 0  # optimiser steps that moved a sample
    tokens: int = 0  # model positions paid for, forward
    wall_s: float = 0.0

    @property
    def useful_tokens(self) -> int:
        """Tokens of the prefixes of all steps; the rest of `tokens` only measured or waited."""
        return sum(n * steps for of_sample in self.stage_steps for n, steps in enumerate(of_sample, start=1))


@dataclasses.dataclass
class Batch:
    """The samples still in the batch; every field is indexed by the row first."""

    sample: torch.Tensor  # [B] index into the run's samples
    length: torch.Tensor  # [B] tokens of the whole target
    target: torch.Tensor  # [B, T] tokens, padded with 0
    inputs: torch.Tensor  # [B, T, D] the target's own embeddings
    memory: torch.Tensor  # [B, K, D] the optimised embedding
    mean: torch.Tensor  # [B, K, D] first moment
    variance: torch.Tensor  # [B, K, D] second moment
    steps: torch.Tensor  # [B] optimiser steps taken in all
    stage_steps: torch.Tensor  # [B] optimiser steps taken at this stage
    exact: torch.Tensor  # [B] bool, this stage's prefix was exact when last measured

    def select(self, keep: torch.Tensor) -> Batch:
        """The rows where `keep` [B] is true."""
        if bool(keep.all()):
            return self
        return Batch(**{field.name: getattr(self, field.name)[keep] for field in dataclasses.fields(self)})


def load(directory: str | Path, *, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The frozen Hugging Face model of `directory`."""
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa")
    return model.to(device).eval().requires_grad_(False)


def random_model(fields: Mapping[str, Any], *, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The frozen Hugging Face model of a config.json, its weights random and made on the device."""
    others = {name: value for name, value in fields.items() if name != "model_type"}
    config = AutoConfig.for_model(fields["model_type"], **others)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def learning_rate_at(steps: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Rate after `steps` steps: linear warm-up from zero, then a cosine to the minimum at `max_steps`."""
    warmup = steps / max(1, settings.warmup_steps)
    progress = (steps - settings.warmup_steps) / max(1, settings.max_steps - settings.warmup_steps)
    cosine = 0.5 * (1 + torch.cos(math.pi * progress.clamp(0, 1)))
    decayed = settings.min_learning_rate + (settings.learning_rate - settings.min_learning_rate) * cosine
    return torch.where(steps < settings.warmup_steps, settings.learning_rate * warmup, decayed)


@torch.no_grad()
def adamw_step(batch: Batch, gradient: torch.Tensor, moving: torch.Tensor, settings: Settings) -> None:
    """One AdamW step of the rows where `moving` [B]; each row has its own count and place in the schedule."""
    mean = torch.lerp(gradient, batch.mean, settings.beta1)
    variance = torch.lerp(gradient.square(), batch.variance, settings.beta2)
    count = (batch.steps + 1).to(batch.memory.dtype)[:, None, None]
    corrected_mean = mean / (1 - settings.beta1**count)
    corrected_deviation = (variance / (1 - settings.beta2**count)).sqrt()
    update = corrected_mean / (corrected_deviation + settings.eps) + settings.weight_decay * batch.memory
    rate = learning_rate_at(batch.steps.to(batch.memory.dtype), settings)[:, None, None]
    row = moving[:, None, None]
    batch.memory = torch.where(row, batch.memory - rate * update, batch.memory)
    batch.mean = torch.where(row, mean, batch.mean)
    batch.variance = torch.where(row, variance, batch.variance)
    batch.steps = batch.steps + moving
    batch.stage_steps = batch.stage_steps + moving


def forward(model: PreTrainedModel, batch: Batch, n: int, memory: torch.Tensor) -> torch.Tensor:
    """Logits [B, n, V] of the first n target tokens, from `memory` [B, K, D] and the first n - 1 of them."""
    inputs = torch.cat([memory.to(batch.inputs.dtype), batch.inputs[:, : n - 1]], dim=1)
    return model(inputs_embeds=inputs, use_cache=False, logits_to_keep=n).logits


def train_pass(model: PreTrainedModel, batch: Batch, n: int, settings: Settings) -> torch.Tensor:
    """Measure prefix n, then step the rows that are not exact and have steps left; which moved [B]."""
    memory = batch.memory.detach().requires_grad_()
    logits = forward(model, batch, n, memory)
    target_Bxn = batch.target[:, :n]
    # An exact row does not move, so it stays exact, whatever a kernel's rounding says of it later.
    batch.exact = batch.exact | (logits.detach().argmax(-1) == target_Bxn).all(-1)
    left = (batch.stage_steps < settings.max_steps_per_token) & (batch.steps < settings.max_steps)
    moving = ~batch.exact & left
    if bool(moving.any()):
        loss = F.cross_entropy(logits.float().flatten(0, 1), target_Bxn.flatten(), reduction="sum") / n
        (gradient,) = torch.autograd.grad(loss, memory)
        adamw_step(batch, gradient, moving, settings)
    return moving


def start_batch(
    model: PreTrainedModel, targets: Sequence[np.ndarray], init_BxKxD: np.ndarray, first: int = 0
) -> Batch:
    """A batch before its first pass.

    Args:
      model: as `load` gives it.
      targets: B integer arrays of token ids.
      init_BxKxD: the embeddings to start from.
      first: the run's index of row 0.
    """
    device = model.device
    lengths = torch.tensor([len(target) for target in targets], device=device)
    target_BxT = torch.zeros(len(targets), int(lengths.max()), dtype=torch.long, device=device)
    for row, target in zip(target_BxT, targets, strict=True):
        row[: len(target)] = torch.as_tensor(np.asarray(target, np.int64))
    memory = torch.tensor(init_BxKxD, device=device)
    none = torch.zeros_like(lengths)
    return Batch(
        sample=torch.arange(first, first + len(targets), device=device),
        length=lengths,
        target=target_BxT,
        inputs=model.get_input_embeddings()(target_BxT),
        memory=memory,
        mean=torch.zeros_like(memory),
        variance=torch.zeros_like(memory),
        steps=none,
        stage_steps=none,
        exact=none.bool(),
    )


def cram_stage(model: PreTrainedModel, batch: Batch, n: int, settings: Settings, outcome: Outcome) -> Batch:
    """All rows through stage n: the rows for which it became exact; the cost is booked in `outcome`."""
    batch = batch.select(batch.length >= n)
    batch.stage_steps = torch.zeros_like(batch.steps)
    batch.exact = torch.zeros_like(batch.sample, dtype=torch.bool)
    while len(batch.sample):
        outcome.passes += 1
        outcome.lane_passes += len(batch.sample)
        outcome.tokens += len(batch.sample) * (batch.memory.shape[1] + n - 1)
        moving = train_pass(model, batch, n, settings)
        over = ~moving & ~batch.exact
        for sample, steps in zip(batch.sample[over].tolist(), batch.stage_steps[over].tolist(), strict=True):
            outcome.stage_steps[sample].append(steps)
        batch = batch.select(~over)
        if bool(batch.exact.all()):
            break
    for sample, steps in zip(batch.sample.tolist(), batch.stage_steps.tolist(), strict=True):
        outcome.horizons[sample] = n
        outcome.stage_steps[sample].append(steps)
    return batch


def cram(
    model: PreTrainedModel,
    targets: Sequence[np.ndarray],
    init_NxKxD: np.ndarray,
    settings: Settings,
    *,
    batch_size: int = 25,
) -> Outcome:
    """Cram N targets progressively, `batch_size` at a time, from the given embeddings.

    Args:
      model: a frozen causal language model, as `load` gives it.
      targets: N integer arrays of token ids; a sample is over when all of its target is exact.
      init_NxKxD: the embeddings to start from; their dtype (float32, as published) is the optimiser's.
      settings: optimiser and caps.
      batch_size: samples in lock-step.
    """
    outcome = Outcome(horizons=[0] * len(targets), stage_steps=[[] for _ in targets])
    start = time.perf_counter()
    for first in range(0, len(targets), batch_size):
        rows = slice(first, first + batch_size)
        batch = start_batch(model, targets[rows], init_NxKxD[rows], first)
        n = 1
        while len(batch.sample):
            batch = cram_stage(model, batch, n, settings, outcome)
            n += 1
    outcome.lane_steps = sum(map(sum, outcome.stage_steps))
    outcome.wall_s = time.perf_counter() - start
    return outcome


def timed_passes(model: PreTrainedModel, bucket: Bucket, count: int) -> Callable[[], None]:
    """A function that runs `count` passes with every row moving, and waits for them; run once before."""
    rng = np.random.default_rng(0)
    target_BxT = rng.integers(0, model.config.vocab_size, (bucket.lanes, bucket.tokens))
    init_BxKxD = np.zeros((bucket.lanes, 1, model.config.hidden_size), np.float32)
    batch = start_batch(model, target_BxT, init_BxKxD)
    endless = Settings(learning_rate=1e-9, max_steps=2**30, max_steps_per_token=2**30)

    def run_passes() -> None:
        for _ in range(count):
            train_pass(model, batch, bucket.tokens, endless)
        batch.memory.sum().item()

    run_passes()
    return run_passes


def set_threads(model: PreTrainedModel, buckets: Sequence[Bucket], asked: int) -> int:
    """Give PyTorch `asked` threads; for 0 one or all cores, whichever runs passes of `buckets` faster."""
    if asked:
        torch.set_num_threads(asked)
        return asked
    candidates, times = sorted({1, len(os.sched_getaffinity(0))}), {}
    for threads in candidates:
        torch.set_num_threads(threads)
        actions = [timed_passes(model, bucket, count=4) for bucket in buckets]
        times[threads] = sum(min(passes.seconds(action, 5)) for action in actions)
    best = min(candidates, key=times.__getitem__)
    torch.set_num_threads(best)
    return best
