"""The outline of a run, as lines of text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxcram.errors import printable

if TYPE_CHECKING:
    from jaxcram.cram.outline import Outline
    from jaxcram.cram.settings import CramSettings

_MOST_VALUES = 5  # of a list that are shown


def outline(plan: Outline) -> list[str]:
    """Model, devices, texts, lanes, procedure, objective, passes and directory, one line each."""
    precision = (
        f"{plan.dtype}; {_count(plan.parameters)} parameters, {plan.layers} layers of width {plan.width}"
    )
    devices = ", ".join(f"{number} x {printable(kind, keep='')}" for kind, number in plan.devices.items())
    if plan.processes > 1:
        devices += f", in {plan.processes} processes"
    low, high = min(plan.lengths), max(plan.lengths)
    tokens = f"{low}" if low == high else f"{low} to {high}, mean {statistics.fmean(plan.lengths):.4g}"
    return [
        f"model     {printable(plan.model, keep='')}, {precision}",
        f"devices   {devices}",
        f"texts     {len(plan.lengths)}, of {tokens} tokens",
        f"lanes     {_lanes(plan)}",
        f"procedure {_procedure(plan.settings)}",
        f"objective {_objective(plan.settings)}",
        f"passes    {_passes(plan)}",
        f"out       {printable(plan.out, keep='')}",
    ]


def _count(number: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def _lanes(plan: Outline) -> str:
    rates, seeds = plan.settings.learning_rates, plan.settings.seeds
    line = (
        f"{plan.lanes}: {_number(len(plan.lengths), 'text')} x {_number(len(rates), 'learning rate')}"
        f" ({_values(rates)}) x {_number(len(seeds), 'seed')}"
    )
    if plan.finished:
        line += f"; {plan.finished} are finished"
    if plan.saved:
        line += f"; {plan.saved} resume from a checkpoint"
    return line


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _values(values: Sequence[float]) -> str:
    shown = [f"{value:g}" for value in values[:_MOST_VALUES]]
    return ", ".join([*shown, "..."] if len(values) > _MOST_VALUES else shown)


def _procedure(settings: CramSettings) -> str:
    stages = settings.stages
    if stages.mode == "full":
        end = "" if stages.full_threshold == 1 else f" until {100 * stages.full_threshold:g}% are right"
        return f"full: the whole text at once{end}, at most {_number(stages.max_steps, 'step')} per lane"
    return (
        f"progressive: {_number(stages.min_tokens, 'token')}, then {stages.progressive_step} more per stage; "
        f"at most {_number(stages.max_steps_per_stage, 'step')} per stage, {stages.max_steps} per lane"
    )


def _objective(settings: CramSettings) -> str:
    vectors = _number(settings.num_memory, "vector")
    return f"{settings.objective.loss}, {vectors} per text; AdamW, {settings.optimizer.schedule} schedule"


def _passes(plan: Outline) -> str:
    if not plan.passes:
        return "their shapes are measured at the start, unless they were before"
    shown = (
        plan.passes
        if len(plan.passes) <= _MOST_VALUES
        else (*plan.passes[: _MOST_VALUES - 1], plan.passes[-1])
    )
    shapes = [f"{bucket.lanes} x {bucket.tokens}" for bucket in shown]
    if len(shown) < len(plan.passes):
        shapes.insert(-1, "...")
    return f"{plan.at_once} at once, of {', '.join(shapes)} (lanes x tokens)"
