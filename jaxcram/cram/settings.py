"""Settings of one run, from flags or keyword arguments; `settings.json` records them.

Nothing here imports JAX, so that `--help` is fast.
"""

from __future__ import annotations

import dataclasses
import difflib
import fractions
import math
import numbers
from typing import Any, Self

from jaxcram.errors import UserError

LOSSES = ("cross_entropy", "hinge")
SCHEDULES = ("cosine", "constant")
MODES = ("progressive", "full")
INITS = ("uniform", "normal")
TRAJECTORIES = ("all", "horizon", "none")
PARTS = ("objective", "optimizer", "stages")  # fields of `CramSettings` that are dataclasses of settings


class TokenBudget(int):
    """Most padded tokens of a pass on one device; `auto` (0) measures which shapes are fastest."""

    def __new__(cls, value: int | str) -> Self:  # noqa: D102
        return super().__new__(cls, 0 if value == "auto" else value)

    def __str__(self) -> str:
        return "auto" if self == 0 else int.__repr__(self)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The per-token loss.

    Attributes:
        loss: "cross_entropy" (as published) or "hinge", max(0, margin + best other logit - true logit).
        temperature: T of the cross-entropy of logits / T.
        temperature_squared: multiply that cross-entropy by T ** 2, which keeps the scale of its gradient.
        margin: of the hinge, in logits.
    """

    loss: str = "cross_entropy"
    temperature: float = 1.0
    temperature_squared: bool = False
    margin: float = 0.5

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"loss {self.loss!r} is unknown: choose one of {', '.join(LOSSES)}")
        if not self.temperature > 0:
            raise UserError(f"temperature {self.temperature} must be greater than 0")
        if self.loss == "hinge" and not self.margin >= 0:
            raise UserError(f"margin {self.margin} must be 0 or greater")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and its schedule.

    Attributes:
        schedule: "cosine" (warm-up, then cosine to min_lr) or "constant" (no warm-up, no decay).
        warmup_steps: steps of the linear warm-up from 0.
        min_lr: the learning rate at the end of the cosine.
        beta1, beta2, eps, weight_decay: of AdamW.
    """

    schedule: str = "cosine"
    warmup_steps: int = 100
    min_lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.9
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UserError(f"schedule {self.schedule!r} is unknown: choose one of {', '.join(SCHEDULES)}")
        if self.warmup_steps < 0:
            raise UserError(f"warmup_steps {self.warmup_steps} must be 0 or greater")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)} must be at least 0 and below 1")
        if not self.min_lr >= 0 or not self.weight_decay >= 0 or not self.eps > 0:
            raise UserError("min_lr and weight_decay must be 0 or greater, and eps greater than 0")


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """The prefix lengths of the stages, and the caps on optimiser steps.

    Attributes:
        mode: "progressive" (grow the prefix) or "full" (one stage: the whole target).
        min_tokens: length of the first prefix, in tokens.
        progressive_step: tokens by which the prefix grows.
        max_steps: cap on optimiser steps per lane.
        max_steps_per_token: cap on optimiser steps per stage; "full" has only `max_steps`.
        full_threshold: accuracy under teacher forcing at which a lane of "full" ends; 1 is the whole target.
    """

    mode: str = "progressive"
    min_tokens: int = 1
    progressive_step: int = 1
    max_steps: int = 10_000
    max_steps_per_token: int = 1_000
    full_threshold: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"mode {self.mode!r} is unknown: choose one of {', '.join(MODES)}")
        for name in ("min_tokens", "progressive_step", "max_steps", "max_steps_per_token"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)} must be at least 1")
        if not 0 < self.full_threshold <= 1:
            raise UserError(f"full_threshold {self.full_threshold} must be greater than 0 and at most 1")
        if self.full_threshold < 1 and self.mode != "full":
            raise UserError(
                f"full_threshold {self.full_threshold} does not apply to mode {self.mode}, whose stages end "
                "when they are exact: use mode=full, or leave it out"
            )

    def enough(self, tokens: int) -> int:
        """How many tokens of a target must be right for `full_threshold`, without rounding: 99 of 100."""
        return math.ceil(fractions.Fraction(str(self.full_threshold)) * tokens)

    @property
    def max_steps_per_stage(self) -> int:
        """The effective cap on the steps of one stage."""
        return self.max_steps if self.mode == "full" else min(self.max_steps_per_token, self.max_steps)

    def between(self, start: int, end: int) -> list[int]:
        """Prefix lengths of the stages from `start` to `end` inclusive; the last increment may be shorter."""
        lengths = list(range(start, end + 1, self.progressive_step))
        return lengths if lengths[-1] == end else [*lengths, end]


@dataclasses.dataclass(frozen=True)
class CramSettings:
    """Settings of one run: its lanes, the procedure, and what is stored. The defaults are the published ones.

    Attributes:
        learning_rates: peaks of the schedule; there is one lane for each sample, learning rate and seed.
        seeds: of the initial embeddings; all learning rates of a sample and seed share one embedding.
        num_memory: memory embeddings K per lane.
        init: "uniform" in [0, 0.02), or "normal" with the token embeddings' standard deviation.
        objective, optimizer, stages: the three parts of the procedure.
        trajectory: embeddings stored in the rows: of "all" stages, only of the "horizon", or "none".
        token_budget: most padded tokens of one pass on one device, over all its lanes; "auto" (0) measures
            once which shapes of passes are fastest with this model on this device.
        chunk_passes: passes on the device between two reads by the host.
        remat: recompute layers in the backward pass instead of storing their activations; None does so if
            the device's memory would not hold them.
        log_every: optimiser steps between two points of a lane's curve; 0 stores no curves. A later start of
            the run may change it: finished lanes keep their points, unfinished ones use the new interval.

    Raises:
        UserError: a value is out of range.
    """

    learning_rates: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    seeds: tuple[int, ...] = (0,)
    num_memory: int = 1
    init: str = "uniform"
    objective: Objective = Objective()
    optimizer: OptimizerSettings = OptimizerSettings()
    stages: StageSettings = StageSettings()
    trajectory: str = "all"
    token_budget: TokenBudget = TokenBudget(0)  # noqa: RUF009 (a number)
    chunk_passes: int = 16
    remat: bool | None = None
    log_every: int = 0

    def __post_init__(self) -> None:
        if not self.learning_rates or not self.seeds:
            raise UserError("learning_rates and seeds must each name at least one value")
        for rate in self.learning_rates:
            if not 0 < rate < float("inf"):
                raise UserError(f"learning rate {rate} must be a finite number greater than 0")
            if self.optimizer.schedule == "cosine" and rate < self.optimizer.min_lr:
                raise UserError(
                    f"learning rate {rate} is below min_lr {self.optimizer.min_lr}, the end of the cosine: "
                    "raise it or lower min_lr"
                )
        for name in ("learning_rates", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UserError(f"{name} {', '.join(map(str, values))} names a value twice")
        if self.num_memory < 1:
            raise UserError(f"num_memory {self.num_memory} must be at least 1")
        if min(self.seeds) < 0 or max(self.seeds) >= 2**31:
            raise UserError(f"seeds {self.seeds} must lie between 0 and 2**31 - 1")
        if self.init not in INITS:
            raise UserError(f"init {self.init!r} is unknown: choose one of {', '.join(INITS)}")
        if self.trajectory not in TRAJECTORIES:
            raise UserError(
                f"trajectory {self.trajectory!r} is unknown: choose one of {', '.join(TRAJECTORIES)}"
            )
        try:
            object.__setattr__(self, "token_budget", TokenBudget(self.token_budget))
        except ValueError:
            raise UserError(f"token_budget {self.token_budget!r} must be auto or a whole number") from None
        if self.token_budget < 0:
            raise UserError(f"token_budget {int(self.token_budget)} must be auto or greater than 0")
        if self.remat not in (None, True, False):
            raise UserError(f"remat {self.remat!r} must be True, False or None")
        if self.chunk_passes < 1:
            raise UserError(f"chunk_passes {self.chunk_passes} must be at least 1")
        if self.log_every < 0:
            raise UserError(f"log_every {self.log_every} must be 0 (no curves) or greater")

    @classmethod
    def of(cls, base: Self | None = None, **values: Any) -> Self:
        """Settings from flat names, as the flags have them: `CramSettings.of(max_steps=200, seeds=[0, 1])`.

        Args:
            base: provides the settings that are not named; None means the defaults.
            values: fields of this class or of its three parts; a single number means a list of one.

        Raises:
            UserError: a name is unknown, or a value has the wrong type or is out of range.
        """
        base = base or cls()
        changes: dict[str, Any] = {}
        for name, value in values.items():
            part = next((part for part in PARTS if name in _fields(getattr(base, part))), None)
            owner = getattr(base, part) if part else base
            if name not in _fields(owner):
                near = difflib.get_close_matches(name, cls.names(), n=1)
                meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(cls.names())}"
                raise UserError(f"no setting {name!r}; {meant}")
            value = _converted(name, value, getattr(owner, name))
            changes = changes | ({part: changes.get(part, {}) | {name: value}} if part else {name: value})
        for part in PARTS:
            if isinstance(changes.get(part), dict):
                changes[part] = dataclasses.replace(getattr(base, part), **changes[part])
        return dataclasses.replace(base, **changes)

    @classmethod
    def names(cls) -> list[str]:
        """The flat names, in order."""
        return list(cls().resolved())

    def resolved(self, **context: Any) -> dict[str, Any]:
        """The flat dictionary that `settings.json` records: `context`, then the settings."""
        flat: dict[str, Any] = dict(context)
        for name, value in dataclasses.asdict(self).items():
            flat.update(value if isinstance(value, dict) else {name: value})
        return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}


def _fields(settings: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(settings)}


def _converted(name: str, value: Any, like: Any) -> Any:
    """A Python or NumPy value converted to the type of the setting; `like` is the value that it replaces."""
    if isinstance(like, tuple):
        several = value if isinstance(value, list | tuple) or hasattr(value, "tolist") else [value]
        several = several.tolist() if hasattr(several, "tolist") else several
        several = several if isinstance(several, list | tuple) else [several]
        return tuple(_converted(name, one, like[0]) for one in several)
    if isinstance(like, TokenBudget) or like is None or dataclasses.is_dataclass(like):
        return value  # checked in `__post_init__`
    kind, what = next(
        (kind, what)
        for of, kind, what in (
            (bool, bool, "True or False"),
            (int, numbers.Integral, "a whole number"),
            (float, numbers.Real, "a number"),
            (str, str, "a word"),
        )
        if isinstance(like, of)
    )
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} {value!r} must be {what}")
    return type(like)(value)
