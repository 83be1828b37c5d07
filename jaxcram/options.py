"""The keyword settings of `jaxcram.api`, with the same names as the flags of the programs."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

from jaxcram.cram.settings import CramSettings
from jaxcram.text.sources import TextSettings

F = TypeVar("F", bound=Callable[..., Any])


class TextOptions(TypedDict, total=False):
    """Which texts are crammed, by flat name; `TextSettings` documents them."""

    split: str
    column: str
    num_samples: int | None
    offset: int
    max_tokens: int | None
    bos: bool | None


class ProcedureOptions(TypedDict, total=False):
    """How they are crammed, by flat name; `CramSettings` documents it."""

    # lanes
    learning_rates: float | Sequence[float]
    seeds: int | Sequence[int]
    num_memory: int
    init: str
    # stages
    mode: str
    min_tokens: int
    progressive_step: int
    max_steps: int
    max_steps_per_token: int
    full_threshold: float
    # objective
    loss: str
    temperature: float
    temperature_squared: bool
    margin: float
    # optimiser
    schedule: str
    warmup_steps: int
    min_lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    # what is stored, and the size of passes
    trajectory: str
    log_every: int
    token_budget: int | str
    chunk_passes: int
    remat: bool | None


class CramOptions(TextOptions, ProcedureOptions, total=False):
    """Settings of a run of cram by flat name."""


class EvaluationOptions(ProcedureOptions, total=False):
    """Settings of an evaluation by flat name; `TaskSettings` documents those of the items."""

    data: str | None
    limit: int | None
    samples: Sequence[int] | None
    shots_data: str | None
    num_shots: int | None
    bos: bool | None
    generative: str | None


class KnockoutOptions(EvaluationOptions, total=False):
    """Settings of a knockout by flat name; `KnockoutSettings` documents those of the conditions."""

    protocols: Sequence[str]
    layers: str | None
    own_row: bool
    scored: str


TEXT_OPTIONS = tuple(field.name for field in dataclasses.fields(TextSettings) if field.name != "texts")


def shows_options(kinds: type, *defaults: Any) -> Callable[[F], F]:
    """Makes `help()` and `inspect.signature` show every setting and its default instead of `**options`.

    Args:
        kinds: the typed dictionary of the options.
        defaults: instances of settings that have their defaults.
    """
    values: dict[str, Any] = {}
    for settings in defaults:
        values |= settings.resolved() if isinstance(settings, CramSettings) else dataclasses.asdict(settings)
    flat = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=values[name], annotation=kind)
        for name, kind in typing.get_type_hints(kinds).items()
    ]

    def shown(function: F) -> F:
        signature = inspect.signature(function)
        named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*named, *flat])  # type: ignore[attr-defined]
        return function

    return shown
