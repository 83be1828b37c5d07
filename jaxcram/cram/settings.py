"""Settings of one run: what command lines and notebooks fill in, and what `settings.json` records."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxcram.cram.objective import Objective
from jaxcram.cram.optimizer import OptimizerSettings
from jaxcram.cram.stages import StageSettings
from jaxcram.errors import UserError

INITS = ("uniform", "normal")
TRAJECTORIES = ("all", "horizon", "none")


@dataclasses.dataclass(frozen=True)
class CramSettings:
    """One run: which lanes, by which procedure, and what is kept. The defaults are the published ones.

    Attributes:
        learning_rates: peaks of the schedule; crossed with all samples and seeds as lanes of one pool.
        seeds: seeds of the initial embeddings; all learning rates of a sample and seed share one.
        num_memory: memory embeddings K per lane.
        init: "uniform" in [0, 0.02), or "normal" with the token embeddings' standard deviation.
        objective, optimizer, stages: the three parts of the procedure.
        trajectory: embeddings kept in the rows: of "all" stages, of the "horizon" alone, or "none".
        token_budget: padded tokens of one pass, over all its lanes; 0 picks a size for the device.
        chunk_passes: passes between two looks of the host.
        remat: recompute layers in the backward pass instead of keeping their activations.

    Raises:
        UserError: a value is out of its range.
    """

    learning_rates: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    seeds: tuple[int, ...] = (0,)
    num_memory: int = 1
    init: str = "uniform"
    objective: Objective = Objective()
    optimizer: OptimizerSettings = OptimizerSettings()
    stages: StageSettings = StageSettings()
    trajectory: str = "all"
    token_budget: int = 0
    chunk_passes: int = 32
    remat: bool = False

    def __post_init__(self) -> None:
        if not self.learning_rates or not self.seeds:
            raise UserError("learning_rates and seeds must each name at least one value")
        for rate in self.learning_rates:
            if not 0 < rate < float("inf"):
                raise UserError(f"learning rate {rate} must be a finite number greater than 0")
            if self.optimizer.schedule == "cosine" and rate < self.optimizer.min_lr:
                raise UserError(
                    f"learning rate {rate} is below min_lr {self.optimizer.min_lr}, where the cosine ends: "
                    "raise it or lower --min_lr"
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
        if self.token_budget < 0:
            raise UserError(f"token_budget {self.token_budget} must be positive, or 0 to have it picked")
        if self.chunk_passes < 1:
            raise UserError(f"chunk_passes {self.chunk_passes} must be at least 1")

    def resolved(self, **context: Any) -> dict[str, Any]:
        """The settings as the flat-keyed dictionary that `settings.json` records, after `context`."""
        flat: dict[str, Any] = dict(context)
        for name, value in dataclasses.asdict(self).items():
            flat.update(value if isinstance(value, dict) else {name: value})
        return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}
