"""How a run is fitted to its devices: its plan, and whether layers are recomputed. Stored with the run.

Both determine the shapes of its passes and so the rounding: what was chosen at the first start stays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from jaxcram.cram import pass_bytes, roofline
from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.lanes import PassSettings
from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import mesh, processes
from jaxcram.devices.compilation import cache_directory
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.results import disk


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a run is fitted to its devices.

    Attributes:
        asked: the settings token_budget and remat.
        devices: on which the run started.
        plan: the shapes of its passes.
        remat: whether layers are recomputed in the backward pass.
        note: how the plan was found, for the user.
    """

    asked: tuple[int, bool | None]
    devices: tuple[str, ...]
    plan: Plan
    remat: bool
    note: str = ""

    def serves(self, model: Decoder, settings: CramSettings, lengths: Sequence[int]) -> bool:
        """Whether a start with these settings, texts and devices goes on with this fit."""
        same = (self.asked, self.devices) == (_asked(settings), _devices(model))
        return same and self.plan.buckets[-1].tokens >= max(lengths)


def fit_of_json(values: Mapping[str, Any] | None) -> Fit | None:
    """The fit that `dataclasses.asdict` made this of; None if there is none or it is damaged."""
    if values is None:
        return None
    try:
        asked, devices = values["asked"], values["devices"]
        plan = Plan.of_json(values["plan"])
        return Fit((asked[0], asked[1]), tuple(devices), plan, values["remat"], values["note"])
    except (LookupError, TypeError):
        return None


def fit_run(
    model: Decoder,
    settings: CramSettings,
    lengths: Sequence[int],
    before: Fit | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Fit:
    """Fits a run to its devices; several processes agree on the values of process 0.

    Args:
        model: the frozen decoder, on its devices.
        settings: the procedure.
        lengths: tokens of every text of the run.
        before: the fit that is stored with the run, if any; it is returned if it still serves.
        tell: shows a line before something is measured.
    """
    fit = known_fit(model, settings, lengths, before)
    if fit:
        return fit
    work, room = _work(settings, lengths), _room(model, settings)
    remat, most_tokens = _memory(model, settings, max(lengths))
    times, origin = _times(model, settings, work, (room, most_tokens), remat, tell)
    plans = [Plan.best(work, time, at_once, room, most_tokens) for at_once, time in times.items()]
    return _made(model, settings, min(plans, key=lambda plan: plan.seconds), remat, origin)


def known_fit(
    model: Decoder, settings: CramSettings, lengths: Sequence[int], before: Fit | None = None
) -> Fit | None:
    """The fit of a run, where nothing has to be measured for it; the arguments are those of `fit_run`."""
    if before and before.serves(model, settings, lengths):
        return before
    if budget := int(settings.token_budget):
        remat, most_tokens = _memory(model, settings, max(lengths))
        budget = int(min(budget, most_tokens))
        at_once = mesh.places(mesh.of(model))
        plan = Plan.of_budget(_work(settings, lengths), budget, at_once, _room(model, settings))
        return _made(model, settings, plan, remat)
    return None


def _made(model: Decoder, settings: CramSettings, plan: Plan, remat: bool, note: str = "") -> Fit:
    if remat and settings.remat is None:
        note = "; ".join(filter(None, (note, "layers are recomputed on the way back, to fit the memory")))
    return Fit(_asked(settings), _devices(model), plan, remat, note)


def _asked(settings: CramSettings) -> tuple[int, bool | None]:
    return int(settings.token_budget), settings.remat


def _devices(model: Decoder) -> tuple[str, ...]:
    return tuple(f"{x.platform}: {x.device_kind}" for x in mesh.of(model).devices.flat)


def _work(settings: CramSettings, lengths: Sequence[int]) -> Work:
    return Work.of(lengths, len(settings.learning_rates) * len(settings.seeds), settings.stages)


def _room(model: Decoder, settings: CramSettings) -> int:
    """Target tokens that the model has positions for."""
    return model.config.max_positions - settings.num_memory + 1


def _memory(model: Decoder, settings: CramSettings, longest: int) -> tuple[bool, float]:
    """Whether layers are to be recomputed, and the padded tokens of a pass that then fit into the memory.

    Layers are recomputed as asked, or where the device cannot hold the activations of one lane.
    """

    def most(remat: bool) -> float:
        return pass_bytes.most_tokens(model, longest, settings.num_memory, remat=remat)

    remat = settings.remat
    if remat is None:
        remat = processes.from_first(lambda: most(False) < longest)
    return remat, processes.from_first(lambda: most(remat))


def _times(
    model: Decoder,
    settings: CramSettings,
    work: Work,
    limits: tuple[int, float],
    remat: bool,
    tell: Callable[[str], None],
) -> tuple[dict[int, PassTime], str]:
    """Time of a pass by the number of passes at once, and a line for the user if it was measured now.

    The first call measures it, and stores it in the compilation cache: later runs then have the same plan
    and the same rounding.
    """
    file = _file(model, settings, remat)
    stored = processes.from_first(lambda: _stored(file))
    if stored:
        return {int(at_once): PassTime(*values) for at_once, values in stored.items()}, ""
    tell("measuring once how long passes take with this model on this device")
    start = time.perf_counter()
    measured = _measured(model, settings, work, limits, remat)
    agreed: dict[str, list[float]] = processes.from_first(
        lambda: {str(at_once): [each.fixed_s, each.token_s] for at_once, each in measured.items()}
    )
    if file is not None:
        with suppress(OSError, UserError):  # without the file, the next start only measures again
            file.parent.mkdir(parents=True, exist_ok=True)
            disk.replace(file, json.dumps(agreed).encode() + b"\n")
    times = {int(at_once): PassTime(*values) for at_once, values in agreed.items()}
    each = times[min(times)]
    note = f"a pass takes {1e3 * each.fixed_s:.2g} ms and {1e3 * each.token_s:.2g} ms a token"
    kept = f", and kept in {file}" if file else ""
    return times, f"{note} (measured in {time.perf_counter() - start:.0f} s{kept})"


def _measured(
    model: Decoder, settings: CramSettings, work: Work, limits: tuple[int, float], remat: bool
) -> dict[int, PassTime]:
    """Times of passes in two buckets of the plan that guessed times lead to."""
    passes = PassSettings.of(settings, remat)
    mem_shape = (settings.num_memory, model.config.width)
    whole = mesh.of(model)
    most_at_once = mesh.places(whole)
    at_once = 1 if mesh.shares_cores(whole) else most_at_once
    buckets = Plan.best(work, roofline.guessed(model), at_once, *limits).buckets
    groups = DeviceGroups(model, at_once)
    sizes = {bucket: bucket.tokens * bucket.lanes for bucket in buckets}
    first = buckets[0]
    larger = next((bucket for bucket in buckets if sizes[bucket] >= 3 * sizes[first]), None)
    first_s = roofline.measured(groups, mem_shape, first, passes)
    if larger:
        larger_s = roofline.measured(groups, mem_shape, larger, passes)
        token_s = (larger_s - first_s) / (sizes[larger] - sizes[first])
    else:
        token_s = roofline.guessed(model).token_s
    times = {at_once: _rounded(first_s, token_s, sizes[first])}
    if at_once < most_at_once:
        together_s = roofline.measured(DeviceGroups(model, most_at_once), mem_shape, first, passes)
        times[most_at_once] = times[at_once].scaled(together_s / first_s)
    return times


def _rounded(seconds: float, token_s: float, tokens: int) -> PassTime:
    """The time of a pass from one measurement and the slope.

    The slope of two noisy measurements may be anything: a token takes between a fifth of its share of the
    pass and all of it. Both parts are rounded to steps of a fifth or so, since they decide on shapes.
    """
    token_s = min(max(token_s, 0.2 * seconds / tokens), 0.98 * seconds / tokens)
    rounded = [2.0 ** (round(4 * math.log2(x)) / 4) for x in (seconds - token_s * tokens, token_s)]
    return PassTime(*rounded)


def _file(model: Decoder, settings: CramSettings, remat: bool) -> Path | None:
    """Where the times of passes with this model on this device are stored; None without a cache."""
    directory = cache_directory()
    kind = jax.devices()[0].device_kind
    identity = [
        repr(model.config),
        str(model.dtype),
        mesh.cpu_model() if kind == "cpu" else kind,
        mesh.of(model).shape_tuple,
        settings.num_memory,
        remat,
        jax.__version__,
        importlib.metadata.version("jaxcram"),
    ]
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    return None if directory is None else directory / f"pass_time_{key}.json"


def _stored(file: Path | None) -> dict[str, list[float]] | None:
    """What an earlier run measured; None if there is nothing or the file is damaged."""
    try:
        values = json.loads(file.read_text()) if file else {}
        return {str(int(at_once)): [float(one), float(two)] for at_once, (one, two) in values.items()} or None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
