"""The keyword settings of `jaxcram.api.cram`, with the same names as the flags of `jaxcram cram`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

from jaxcram.cram.settings import CramSettings
from jaxcram.text.sources import TextSettings

F = TypeVar("F", bound=Callable[..., Any])


class CramOptions(TypedDict, total=False):
    """Settings of a run by flat name; `CramSettings` and `TextSettings` document them."""

    # texts
    split: str
    column: str
    num_samples: int | None
    offset: int
    max_tokens: int | None
    bos: bool | None
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


TEXT_OPTIONS = tuple(field.name for field in dataclasses.fields(TextSettings) if field.name != "texts")


def shows_options(function: F) -> F:
    """Makes `help()` and `inspect.signature` show every setting and its default instead of `**options`."""
    defaults = dataclasses.asdict(TextSettings()) | CramSettings().resolved()
    signature = inspect.signature(function)
    named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flat = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind)
        for name, kind in CramOptions.__annotations__.items()
    ]
    function.__signature__ = signature.replace(parameters=[*named, *flat])  # type: ignore[attr-defined]
    return function
