"""How a run is fitted to its devices: its plan, and whether layers are recomputed. Stored with the run.

Both determine the shapes of its passes and so the rounding: what was chosen at the first start stays.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax.errors import JaxRuntimeError

import jaxcram
from jaxcram.cram import pass_bytes, roofline
from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.lanes import PassSettings
from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import device_memory, mesh, processes
from jaxcram.devices.compilation import cache_directory
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.results import disk

# The host's work for a chunk, for which devices wait or share their cores: 3.6 ms in the default run.
HOST_S = 4e-3
MEASUREMENT = 2  # raised where passes get faster, or are timed otherwise: earlier times then serve no more


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a run is fitted to its devices.

    Attributes:
        asked: the settings token_budget and remat.
        devices: on which the run started.
        plan: the shapes of its passes.
        remat: whether layers are recomputed in the backward pass.
        note: what the user should know of it at this start.
    """

    asked: tuple[int, bool | None]
    devices: tuple[str, ...]
    plan: Plan
    remat: bool
    note: str = ""


def fit_of_json(values: Mapping[str, Any] | None) -> Fit | None:
    """The fit that `dataclasses.asdict` made this of, without its note; None if it is damaged or absent."""
    if values is None:
        return None
    try:
        asked, devices = values["asked"], values["devices"]
        return Fit((asked[0], asked[1]), tuple(devices), Plan.of_json(values["plan"]), values["remat"])
    except (LookupError, TypeError, ValueError):
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
    run = _Run(model, settings, lengths)
    if fit := run.known(before):
        return fit
    tell("measuring once how long passes take with this model on this device")
    start = time.perf_counter()
    each = _agreed(run.measured())
    took = f"measured in {time.perf_counter() - start:.0f} s"
    if run.file:
        took += f", and kept in {run.file}"
        with suppress(OSError, UserError):  # without the file, the next start only measures again
            run.file.parent.mkdir(parents=True, exist_ok=True)
            kept = {"fixed_s": each.fixed_s, "token_s": each.token_s}
            disk.replace(run.file, json.dumps(kept).encode() + b"\n")
    fixed, token = f"{1e3 * each.fixed_s:.2g} ms", f"{1e3 * each.token_s:.2g} ms"
    return run.fit(run.plan(each), f"a pass takes {fixed} and {token} a token ({took})")


def known_fit(
    model: Decoder, settings: CramSettings, lengths: Sequence[int], before: Fit | None = None
) -> Fit | None:
    """The fit of a run, if nothing has to be measured for it; the arguments are those of `fit_run`."""
    return _Run(model, settings, lengths).known(before)


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """What the fit of a run follows from.

    Attributes:
        model: the frozen decoder.
        settings: the procedure.
        lengths: tokens of every text.
    """

    model: Decoder
    settings: CramSettings
    lengths: Sequence[int]

    @property
    def asked(self) -> tuple[int, bool | None]:
        """The settings that a fit follows from."""
        return int(self.settings.token_budget), self.settings.remat

    @property
    def devices(self) -> tuple[str, ...]:
        """Platform and kind of every device, their mesh, and the number of processes."""
        whole = mesh.of(self.model)
        kinds = (f"{device.platform}: {device.device_kind}" for device in whole.devices.flat)
        return (*kinds, f"mesh: {dict(whole.shape)}", f"processes: {processes.count()}")

    @property
    def work(self) -> Work:
        """The steps to be taken."""
        per_text = len(self.settings.learning_rates) * len(self.settings.seeds)
        return Work.of(self.lengths, per_text, self.settings.stages)

    @property
    def room(self) -> int:
        """Target tokens that the model has positions for."""
        return self.model.config.max_positions - self.settings.num_memory + 1

    @functools.cached_property
    def memory(self) -> tuple[bool, float]:
        """Whether layers are recomputed, and the padded tokens of a pass that then fit into the memory.

        They are recomputed as asked, or if the device cannot hold one lane's activations.
        """
        asked, longest, num_memory = self.settings.remat, max(self.lengths), self.settings.num_memory

        def chosen() -> tuple[bool, float]:
            kept = pass_bytes.most_tokens(self.model, longest, num_memory, remat=bool(asked))
            if asked is not None or kept >= longest:
                return bool(asked), kept
            return True, pass_bytes.most_tokens(self.model, longest, num_memory, remat=True)

        remat, most_tokens = processes.from_first(chosen)
        return remat, most_tokens

    def known(self, before: Fit | None) -> Fit | None:
        """See `known_fit`."""
        same = before and (before.asked, before.devices) == (self.asked, self.devices)
        if before and same and before.plan.buckets[-1].tokens >= max(self.lengths):
            return before
        if self.settings.token_budget:
            budget = int(min(self.settings.token_budget, self.memory[1]))
            return self.fit(Plan.of_budget(self.work, budget, roofline.at_once(self.model), self.room))
        file = self.file  # outside of what process 0 does alone: it asks all of them
        stored = processes.from_first(lambda: _stored(file))
        return self.fit(self.plan(PassTime(stored[0], stored[1]))) if stored else None

    def plan(self, time: PassTime) -> Plan:
        """The plan if passes take so long."""
        fixed_s = time.fixed_s + HOST_S / self.settings.chunk_passes
        each = PassTime(fixed_s, time.token_s, before=self.settings.num_memory - 1)
        return Plan.best(self.work, each, roofline.at_once(self.model), self.room, self.memory[1])

    def fit(self, plan: Plan, note: str = "") -> Fit:
        """The fit with a plan."""
        remat, _ = self.memory
        if remat and self.settings.remat is None:
            note = "; ".join(filter(None, (note, "layers are recomputed on the way back, to fit the memory")))
        return Fit(self.asked, self.devices, plan, remat, note)

    def measured(self) -> PassTime:
        """Time of a pass, by two buckets of the plan that the roofline alone leads to."""
        passes = PassSettings.of(self.settings, self.memory[0])
        mem_shape = (self.settings.num_memory, self.model.config.width)
        guess = _agreed(roofline.guessed(self.model))
        plan = self.plan(guess)
        sizes = [(bucket.tokens + plan.time.before) * bucket.lanes for bucket in plan.buckets]
        larger = next((i for i, size in enumerate(sizes) if size >= 3 * sizes[0]), None)
        groups = DeviceGroups(self.model, plan.at_once)
        try:
            seconds, slope = roofline.measured(groups, mem_shape, plan.buckets[0], passes), 0.0
            if larger:
                larger_s = roofline.measured(groups, mem_shape, plan.buckets[larger], passes)
                slope = (larger_s - seconds) / (sizes[larger] - sizes[0])
        except JaxRuntimeError as error:
            if not device_memory.ran_out(error):
                raise
            if processes.count() > 1:
                raise UserError(
                    "out of device memory while passes were measured: give token_budget=N, or remat"
                ) from error
            return guess  # the run itself finds out what fits
        return _agreeing(guess, seconds, slope, sizes[0])

    @functools.cached_property
    def file(self) -> Path | None:
        """Where the times of passes with this model on this device are kept; None without a cache."""
        directory = cache_directory()
        kind = jax.devices()[0].device_kind
        identity = [
            repr(self.model.config),
            str(self.model.dtype),
            mesh.cpu_model() if kind == "cpu" else kind,
            mesh.of(self.model).shape_tuple,
            self.settings.num_memory,
            self.memory[0],
            jax.__version__,
            jaxcram.__version__,
            MEASUREMENT,
        ]
        key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        return None if directory is None else directory / f"pass_time_{key}.json"


def _agreed(time: PassTime) -> PassTime:
    """The time that process 0 found."""
    fixed_s, token_s = processes.from_first(lambda: [time.fixed_s, time.token_s])
    return PassTime(fixed_s, token_s)


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


def _stored(file: Path | None) -> list[float] | None:
    """What an earlier run measured; None if there is nothing or the file is damaged."""
    try:
        values = json.loads(file.read_text()) if file else {}
        return [float(values["fixed_s"]), float(values["token_s"])]
    except (OSError, ValueError, TypeError, LookupError):
        return None
