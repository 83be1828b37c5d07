"""Multiple choice with crammed embeddings in plain PyTorch: what jaxcram's evaluations are timed against.

The loops that one writes with Hugging Face transformers: full cramming of contexts in lock-step batches, as
published; scores of endings in padded batches; and a knockout sweep with hooks, one condition at a time.

Letters: B texts in a batch, K memory, N inputs, T tokens, I items, C conditions, L layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from common.torch_reference import Batch, Settings, adamw_step, forward, start_batch
from jaxcram.evaluate.choices import Choices
from jaxcram.evaluate.multiple_choice import SCORES


def cram_full(
    model: PreTrainedModel,
    targets: Sequence[np.ndarray],
    init_NxKxD: np.ndarray,
    settings: Settings,
    *,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cram N whole targets, `batch_size` at a time: embeddings [N, K, D], and which are exact, bool [N].

    An exact sample waits, unchanged, for the slowest of its batch.
    """
    memories, exact = [], []
    for first in range(0, len(targets), batch_size):
        rows = slice(first, first + batch_size)
        batch = start_batch(model, targets[rows], init_NxKxD[rows], first)
        while _full_pass(model, batch, settings):
            pass
        memories.append(batch.memory.numpy(force=True))
        exact.append(batch.exact.numpy(force=True))
    return np.concatenate(memories), np.concatenate(exact)


def _full_pass(model: PreTrainedModel, batch: Batch, settings: Settings) -> bool:
    """Measure whole targets, then step the rows that are not exact and have steps left; whether any moved."""
    memory = batch.memory.detach().requires_grad_()
    logits = forward(model, batch, batch.target.shape[1], memory)
    counted_BxT = torch.arange(batch.target.shape[1], device=model.device) < batch.length[:, None]
    right_BxT = logits.detach().argmax(-1) == batch.target
    batch.exact = batch.exact | (right_BxT | ~counted_BxT).all(-1)
    moving = ~batch.exact & (batch.steps < settings.max_steps)
    if not bool(moving.any()):
        return False
    losses = F.cross_entropy(logits.float().flatten(0, 1), batch.target.flatten(), reduction="none")
    means_B = (losses.view_as(batch.target) * counted_BxT).sum(1) / batch.length
    (gradient,) = torch.autograd.grad(means_B.sum(), memory)
    adamw_step(batch, gradient, moving, settings)
    return True


@torch.no_grad()
def token_scores(
    model: PreTrainedModel,
    texts: Sequence[np.ndarray],
    memories: Sequence[np.ndarray] | None,
    *,
    batch_size: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """log p of every token of each text, and whether it is the argmax, [n] each; 0 where nothing predicts it.

    Args:
        model: as `torch_reference.load` gives it.
        texts: integer [n] of each.
        memories: fp32 [K, D] of each; None for the texts alone.
        batch_size: texts of a pass, padded at their ends.
    """
    found = []
    for first in range(0, len(texts), batch_size):
        rows = slice(first, first + batch_size)
        tensors = [torch.as_tensor(np.asarray(text, np.int64)) for text in texts[rows]]
        tokens_BxT = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(model.device)
        inputs = model.get_input_embeddings()(tokens_BxT)
        if memories is not None:
            mem_BxKxD = torch.as_tensor(np.stack(memories[rows])).to(inputs)
            inputs = torch.cat([mem_BxKxD, inputs], dim=1)
        first_scored = 0 if memories is not None else 1
        targets = tokens_BxT[:, first_scored:]
        kept = targets.shape[1] + 1
        logits = model(inputs_embeds=inputs, use_cache=False, logits_to_keep=kept).logits[:, :-1].float()
        log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        right = logits.argmax(-1) == targets
        for text, log_probs_T, right_T in zip(
            texts[rows], log_probs.numpy(force=True), right.numpy(force=True), strict=True
        ):
            before = first_scored, 0
            found.append((np.pad(log_probs_T, before)[: len(text)], np.pad(right_T, before)[: len(text)]))
    return found


def eight_scores(
    model: PreTrainedModel, items: Sequence[Choices], mem_IxKxD: np.ndarray, *, batch_size: int
) -> dict[str, list[list[float]]]:
    """The scores of `jaxcram.evaluate.multiple_choice`: summed log-probabilities of each ending, [I][E]."""
    texts = [text for item in items for text in item.texts]
    starts = [start for item in items for start in item.num_context]
    owners = [mem for item, mem in zip(items, mem_IxKxD, strict=True) for _ in item.texts]
    endings = [text[start:] for text, start in zip(texts, starts, strict=True)]
    base, memory, instead = (
        [log_probs for log_probs, _ in token_scores(model, read, before, batch_size=batch_size)]
        for read, before in ((texts, None), (texts, owners), (endings, owners))
    )
    ones, zeros, ending_starts = [1] * len(texts), [0] * len(texts), [max(1, start) for start in starts]
    scored = [
        *((base, ones), (base, ending_starts), (memory, ones), (memory, ending_starts), (memory, zeros)),
        *((instead, ones), (instead, ones), (instead, zeros)),
    ]
    return {
        name: _by_item(items, [float(x[start:].sum()) for x, start in zip(values, first, strict=True)])
        for name, (values, first) in zip(SCORES, scored, strict=True)
    }


def knockout_sweep(
    model: PreTrainedModel,
    items: Sequence[Choices],
    mem_IxKxD: np.ndarray,
    layers_CxL: np.ndarray,
    *,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray, list[list[list[float]]]]:
    """Every item under every condition, one condition at a time.

    Returns:
        Whether the mean log-probability of a token is highest for the right ending, bool [C, I]; the share of
        the context's tokens that are right, [C, I]; and the summed log-probabilities of each ending
        [C][I][E], without the first token of the text.
    """
    texts = [text for item in items for text in item.texts]
    owners = [mem for item, mem in zip(items, mem_IxKxD, strict=True) for _ in item.texts]
    right, shares, sums = [], [], []
    for layers_L in layers_CxL:
        with knocked_out(model, layers_L, mem_IxKxD.shape[1]):
            contexts = token_scores(
                model, [item.context for item in items], list(mem_IxKxD), batch_size=batch_size
            )
            scored = token_scores(model, texts, owners, batch_size=batch_size)
        shares.append([right_T.mean() for _, right_T in contexts])
        means = _by_item(items, [float(log_probs[1:].mean()) for log_probs, _ in scored])
        right.append([int(np.argmax(of)) == item.label for of, item in zip(means, items, strict=True)])
        sums.append(_by_item(items, [float(log_probs[1:].sum()) for log_probs, _ in scored]))
    return np.array(right), np.array(shares), sums


@contextlib.contextmanager
def knocked_out(model: PreTrainedModel, layers_L: np.ndarray, num_memory: int) -> Iterator[None]:
    """Hooks that bar the text from attending to the memory, at the layers where `layers_L` is True.

    Only these layers get a mask; the others keep sdpa's own causal one, which is faster.
    """
    masks: dict[int, torch.Tensor] = {}

    def bar(module: Any, arguments: tuple, options: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        length = (options["hidden_states"] if "hidden_states" in options else arguments[0]).shape[1]
        if length not in masks:
            seen = torch.ones(length, length, dtype=torch.bool, device=model.device).tril()
            seen[num_memory:, :num_memory] = False
            masks[length] = seen[None, None]
        return arguments, {**options, "attention_mask": masks[length]}

    barred = [layer for layer, out in zip(model.model.layers, layers_L, strict=True) if out]
    hooks = [layer.self_attn.register_forward_pre_hook(bar, with_kwargs=True) for layer in barred]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _by_item(items: Sequence[Choices], values: Sequence[float]) -> list[list[float]]:
    """One value a text as one list an item."""
    flat = iter(values)
    return [[next(flat) for _ in item.texts] for item in items]
