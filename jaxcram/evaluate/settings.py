"""Settings of an evaluation: its items, and how their contexts are crammed. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.errors import UserError

NUM_SHOTS = 5  # as published ([P])
BASE_MODE = "none"
MODES = ("few_shot", "full_prefix", "random", BASE_MODE)  # of generation (`jaxcram.evaluate.generative`)


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """Which items are evaluated.

    Attributes:
        task: one of `jaxcram.evaluate.tasks.registry.TASKS`.
        data: a table or Hub data set with the task's columns; None is the task's own.
        limit: the first so many items; None takes all.
        samples: ids of the items to take instead.
        shots_data: where solved questions come from, for tasks that are answered after some; as `data`.
        num_shots: solved questions before each one; None is `NUM_SHOTS`.
        bos: whether texts begin with BOS; None follows the tokenizer.
        generative: generate the answers of tasks with shots, in one of `MODES`; None scores the endings.
    """

    task: str = "cloze"
    data: str | None = None
    limit: int | None = None
    samples: tuple[int, ...] | None = None
    shots_data: str | None = None
    num_shots: int | None = None
    bos: bool | None = None
    generative: str | None = None

    def __post_init__(self) -> None:
        if self.generative is not None and self.generative not in MODES:
            raise UserError(f"generative={self.generative}: no such mode; choose one of {', '.join(MODES)}")
        if self.samples is not None:
            object.__setattr__(self, "samples", tuple(map(operator.index, self.samples)))
        for name in ("num_shots", "shots_data"):
            if self.generative is None and (value := getattr(self, name)) is not None:
                raise UserError(
                    f"{name}={value}: endings are scored without solved questions; leave it out, or give "
                    "generative"
                )

    @property
    def shots(self) -> int:
        """Solved questions before each one where answers are generated."""
        return NUM_SHOTS if self.num_shots is None else self.num_shots


# As published: one vector for each context, 1,000 steps. Only the embedding that is used is stored.
CRAM = CramSettings(
    learning_rates=(0.1,), stages=StageSettings(mode="full", max_steps=1_000), trajectory="horizon"
)


def taken(options: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are fields of a class of settings, and the others; lists become tuples."""
    names = {field.name for field in dataclasses.fields(kind)}
    own = {name: value for name, value in options.items() if name in names}
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    return own, {name: value for name, value in options.items() if name not in names}


def task_settings(
    task: str | TaskSettings, options: Mapping[str, Any]
) -> tuple[TaskSettings, dict[str, Any]]:
    """The settings of a task that is given by name or by settings, and the options that are not its own."""
    own, others = taken(options, TaskSettings)
    base = task if isinstance(task, TaskSettings) else TaskSettings(task=task)
    return dataclasses.replace(base, **own), others


# Full cramming stopped at 99% as published; the other two setups of a reconstruction differ in their stages.
RECONSTRUCT = CramSettings(
    learning_rates=(0.1,), stages=StageSettings(mode="full", full_threshold=0.99), trajectory="horizon"
)


def setups(settings: CramSettings) -> dict[str, CramSettings]:
    """The three ways in which texts are crammed for a reconstruction, by name.

    Args:
        settings: of full cramming that stops at `full_threshold`.

    Raises:
        UserError: it does not stop before all tokens are right, or no embedding would be stored.
    """
    stages = settings.stages
    if stages.full_threshold == 1:
        raise UserError(
            "full_threshold 1.0: full cramming would be done twice; choose one below 1, such as 0.99"
        )
    if settings.trajectory == "none":
        raise UserError("trajectory none: the embeddings are what is measured; choose horizon or all")
    to_the_end = dataclasses.replace(stages, full_threshold=1.0)
    of_stages = (stages, to_the_end, dataclasses.replace(to_the_end, mode="progressive"))
    return {setup_name(one): dataclasses.replace(settings, stages=one) for one in of_stages}


def setup_name(stages: StageSettings) -> str:
    """Such as full_0.99, full or progressive."""
    return stages.mode if stages.full_threshold == 1 else f"{stages.mode}_{stages.full_threshold:g}"


def cram_settings(base: CramSettings | None, options: Mapping[str, Any]) -> CramSettings:
    """How contexts are crammed; one lane for each.

    Args:
        base: provides what `options` do not name; None means `CRAM`.
        options: settings by flat name.

    Raises:
        UserError: a setting is unknown or out of range, there would be several embeddings of a context, or
            none would be stored.
    """
    settings = CramSettings.of(base or CRAM, **options)
    for name in ("learning_rates", "seeds"):
        values = getattr(settings, name)
        if len(values) > 1:
            raise UserError(
                f"{name} {', '.join(map(str, values))}: every context is crammed once; give one value, and "
                "evaluate the others in directories of their own"
            )
    if settings.trajectory == "none":
        raise UserError("trajectory none: the embeddings are what is evaluated; choose horizon or all")
    return settings


SCORED = ("memory", "memory_ending", "memory_edge")


@dataclasses.dataclass(frozen=True)
class KnockoutSettings:
    """Under which conditions the text does not see the memory.

    Attributes:
        protocols: some of single, forward and reverse (see `jaxcram.evaluate.knockout`).
        layers: further sets of layers, as "0-3,7", several separated by semicolons.
        own_row: also measure every condition as published code does, with the memory barred from itself.
        scored: which score of the endings decides: memory, memory_ending or memory_edge.
    """

    protocols: tuple[str, ...] = ("single", "forward", "reverse")
    layers: str | None = None
    own_row: bool = False
    scored: str = "memory"

    def __post_init__(self) -> None:
        if self.scored not in SCORED:
            raise UserError(f"scored={self.scored} must be one of {', '.join(SCORED)}")
        if not self.protocols and self.layers is None:
            raise UserError("protocols and layers: no condition is named; give one of them")

    @property
    def sets(self) -> list[str]:
        """The further sets of layers."""
        return [] if self.layers is None else self.layers.split(";")
