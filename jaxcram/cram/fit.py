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
    remat, most_tokens = _memory(model, settings, max(lengths))
    work, at_once, room = _work(settings, lengths), roofline.at_once(model), _room(model, settings)

    def plan(time: PassTime) -> Plan:
        return Plan.best(work, time, at_once, room, most_tokens)

    time, note = _time(model, settings, plan, remat, tell)
    return _made(model, settings, plan(time), remat, note)


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


def _time(
    model: Decoder,
    settings: CramSettings,
    plan: Callable[[PassTime], Plan],
    remat: bool,
    tell: Callable[[str], None],
) -> tuple[PassTime, str]:
    """Time of a pass, and a line for the user if it was measured now.

    The first call measures it, and stores it in the compilation cache: later runs then have the same plan
    and the same rounding. `plan` makes the plan for a time.
    """
    file = _file(model, settings, remat)
    if stored := processes.from_first(lambda: _stored(file)):
        return PassTime(*stored), ""
    tell("measuring once how long passes take with this model on this device")
    start = time.perf_counter()
    measured = _measured(model, settings, plan, remat)
    each = PassTime(*processes.from_first(lambda: [measured.fixed_s, measured.token_s]))
    if file is not None:
        with suppress(OSError, UserError):  # without the file, the next start only measures again
            file.parent.mkdir(parents=True, exist_ok=True)
            disk.replace(file, json.dumps(dataclasses.asdict(each)).encode() + b"\n")
    took = f"measured in {time.perf_counter() - start:.0f} s"
    kept = f", and kept in {file}" if file else ""
    return (
        each,
        f"a pass takes {1e3 * each.fixed_s:.2g} ms and {1e3 * each.token_s:.2g} ms a token ({took}{kept})",
    )


def _measured(
    model: Decoder, settings: CramSettings, plan: Callable[[PassTime], Plan], remat: bool
) -> PassTime:
    """Time of a pass, by two buckets of the plan that the roofline alone leads to."""
    passes, mem_shape = PassSettings.of(settings, remat), (settings.num_memory, model.config.width)
    guess = roofline.guessed(model)
    first = plan(guess)
    buckets = first.buckets
    sizes = [bucket.tokens * bucket.lanes for bucket in buckets]
    larger = next((i for i, size in enumerate(sizes) if size >= 3 * sizes[0]), None)
    groups = DeviceGroups(model, first.at_once)
    seconds = roofline.measured(groups, mem_shape, buckets[0], passes)
    slope = 0.0
    if larger:
        larger_s = roofline.measured(groups, mem_shape, buckets[larger], passes)
        slope = (larger_s - seconds) / (sizes[larger] - sizes[0])
    return _agreeing(guess, seconds, slope, sizes[0])


def _agreeing(guess: PassTime, seconds: float, slope: float, tokens: int) -> PassTime:
    """The time of a pass that took so many seconds with so many tokens, and `slope` for every token more.

    On a busy machine the slope may be anything, so the fixed part equals between half and twice as many
    tokens as the roofline says. Both parts are rounded to steps of a fifth, since they decide on shapes.
    """
    knee = guess.fixed_s / guess.token_s
    if slope:
        fixed_s = max(0.0, seconds - slope * tokens)
        knee = min(max(fixed_s / slope if slope > 0 else math.inf, knee / 2), 2 * knee)
    token_s = seconds / (knee + tokens)
    return PassTime(*(2.0 ** (round(4 * math.log2(x)) / 4) for x in (knee * token_s, token_s)))


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


def _stored(file: Path | None) -> list[float] | None:
    """What an earlier run measured; None if there is nothing or the file is damaged."""
    try:
        values = json.loads(file.read_text()) if file else {}
        return [float(values["fixed_s"]), float(values["token_s"])]
    except (OSError, ValueError, TypeError, LookupError):
        return None
