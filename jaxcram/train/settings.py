"""What a training run is in numbers, and the refusal of numbers that make no sense."""

from __future__ import annotations

import dataclasses
import math
import os

from jaxcram.errors import UserError
from jaxcram.text.sources import is_keyword

SCHEDULES = ("wsd", "cosine")
DTYPES = ("float32", "bfloat16")
HUB = "hub:"  # before the name of a data set of the Hub
_MIN_VOCAB = 256 + 2  # every byte, BOS and EOS


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Everything that decides the result of a training run; the default sizes are those of the bundled model.

    Attributes:
        out: directory of the run: the model, its tokenizer, token files, checkpoints and the log.
        sources: mixture "SOURCE:WEIGHT,..."; a window is drawn from a source with probability proportional to
            its weight (1 where none is given). A source is `stories` (the generator's, without end, and none
            of those that are held out), `hub:NAME`, a data set of the Hub, or whatever else
            `text.sources.load_texts` reads: .txt, .jsonl, .json, .csv, .tsv, .parquet, compressed or not, a
            directory of them, `passages`, `bundled`.
        hub_texts: the most texts to read of a Hub data set.
        stream_tokens: the most tokens of a source that are tokenised and kept, for training.
        held_out_share: share of a source's texts that is kept from training, above 0 and below 1; whole texts
            (files, rows), at least one. Of a single text, its last paragraphs. Stories need none: their
            held-out seeds are never trained on.
        held_out_tokens: tokens of each source on which the held-out loss is measured.
        vocab_size: tokens of the byte-level BPE, BOS and EOS included; 258 or more.
        width: D, channels of the residual stream.
        num_layers: L, layers.
        num_heads: H, query heads.
        num_kv_heads: G, key and value heads; a divisor of num_heads.
        head_size: C, channels of a head; even.
        mlp_width: F, channels between the matrices of the MLP.
        max_positions: positions that the saved config promises. The windows of the last `decay_share` of the
            steps are as long, so that the promise holds; a step has as many tokens then as before. So it is a
            multiple of `window` and divides `batch_size * window`.
        window: T, tokens of a training window until then; short windows train faster.
        batch_size: B, windows of `window` tokens in an optimiser step; over several devices the windows of
            every step have to spread evenly.
        steps: optimiser steps of the whole run.
        learning_rate: peak learning rate of AdamW.
        warmup: steps of linear warm-up, from 0.
        schedule: "wsd" (constant after the warm-up, then linear to 0 over the last `decay_share`) or "cosine"
            (to a tenth of the peak at the end).
        decay_share: share of `steps`, at the end, that wsd decays over; above 0 and below 1.
        weight_decay: decoupled weight decay of AdamW, per unit of learning rate; of matrices only.
        clip: largest global norm of a step's gradient.
        seed: seed of the initial weights, of the windows and of the choice of held-out texts.
        dtype: of the forward and backward pass, "float32" or "bfloat16"; the weights that are trained are
            fp32.
        mesh: how windows and weights are spread over the devices (see `jaxcram.devices.mesh`).
        checkpoint_every: steps between checkpoints, each with the held-out loss and a usable model in `out`.
        log_every: steps between progress lines.
    """

    out: str
    sources: str = "stories"
    hub_texts: int = 10_000
    stream_tokens: int = 20_000_000
    held_out_share: float = 0.05
    held_out_tokens: int = 32_768
    vocab_size: int = 512
    width: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    head_size: int = 32
    mlp_width: int = 256
    max_positions: int = 512
    window: int = 128
    batch_size: int = 16
    steps: int = 6_000
    learning_rate: float = 4e-3
    warmup: int = 100
    schedule: str = "wsd"
    decay_share: float = 0.125
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    dtype: str = "float32"
    mesh: str = "lanes:-1,model:1"
    checkpoint_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        positive = (
            "hub_texts stream_tokens held_out_tokens width num_layers num_heads num_kv_heads head_size "
            "mlp_width max_positions window batch_size steps learning_rate clip checkpoint_every log_every"
        )
        for name in positive.split():
            self._require(name, getattr(self, name) > 0, "give a number above 0")
        for name in ("warmup", "weight_decay", "seed"):
            self._require(name, getattr(self, name) >= 0, "give 0 or more")
        for name in ("held_out_share", "decay_share"):
            self._require(name, 0 < getattr(self, name) < 1, "give a share between 0 and 1")
        sizes = f"give {_MIN_VOCAB} (256 bytes, BOS, EOS) or more"
        self._require("vocab_size", self.vocab_size >= _MIN_VOCAB, sizes)
        self._require("num_kv_heads", self.num_heads % self.num_kv_heads == 0, "give a divisor of num_heads")
        self._require("head_size", self.head_size % 2 == 0, "rotary positions need an even one")
        tokens = self.batch_size * self.window
        fits = self.max_positions % self.window == 0 and tokens % self.max_positions == 0
        self._require("max_positions", fits, "give a multiple of window that divides batch_size * window")
        self._require(
            "max_positions", self.max_positions < self.stream_tokens, "give less than stream_tokens"
        )
        self._require("warmup", self.warmup < self.steps, "give less than steps")
        self._require("schedule", self.schedule in SCHEDULES, f"choose one of {', '.join(SCHEDULES)}")
        self._require("dtype", self.dtype in DTYPES, f"choose one of {', '.join(DTYPES)}")
        parse_mixture(self.sources)

    def _require(self, name: str, holds: bool, remedy: str) -> None:
        if not holds:
            raise UserError(f"{name}={getattr(self, name)}: {remedy}")

    @property
    def final_batch_size(self) -> int:
        """How many windows a step of the last part has."""
        return self.batch_size * self.window // self.max_positions

    @property
    def final_start(self) -> int:
        """The step at which the last part begins: long windows, and the decay of wsd."""
        return self.steps - math.ceil(self.decay_share * self.steps)

    @property
    def steps_matter_from(self) -> int:
        """The step from which the past depends on how many steps there are in all."""
        return self.final_start if self.schedule == "wsd" else self.warmup

    def shape_at(self, step: int) -> tuple[int, int]:
        """Windows of a step and their tokens."""
        if step < self.final_start:
            return self.batch_size, self.window
        return self.final_batch_size, self.max_positions


def parse_mixture(sources: str) -> dict[str, float]:
    """The share of each source, summing to one, in the order given.

    Raises:
        UserError: the mixture is empty, names a source twice, or a weight is not a positive number.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in sources.split(","))):
        name, weight = _split_weight(part)
        if name in weights:
            raise UserError(f"sources={sources}: {name} stands there twice; give it one weight")
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(f"sources={sources}: the weight of {name} is to be above 0")
        weights[name] = weight
    if not weights:
        raise UserError(f"sources={sources!r}: name a source, such as stories or stories:0.7,novels/:0.3")
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _split_weight(part: str) -> tuple[str, float]:
    """`name:0.3` -> (name, 0.3). A colon within the name (hub:owner/set, a path) is no weight."""
    name, colon, weight = part.rpartition(":")
    if not colon or f"{name}:" == HUB or _exists(part):
        return part, 1.0
    try:
        return name, float(weight)
    except ValueError:
        if is_hub(name):  # and the rest is its configuration
            return part, 1.0
        raise UserError(f"sources: {weight!r} in {part!r} is not a weight; write SOURCE:0.5") from None


def is_hub(name: str) -> bool:
    """Whether a source can only be a data set of the Hub."""
    return name.startswith(HUB) or not (is_keyword(name) or _exists(name))


def _exists(name: str) -> bool:
    return os.path.exists(os.path.expanduser(name))
