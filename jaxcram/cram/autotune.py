"""Measures once how long passes take on this device, to choose how many tokens a pass should hold."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JaxRuntimeError

from jaxcram.cram import chunk, lanes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.scheduler import PassCost
from jaxcram.cram.settings import CramSettings, StageSettings, TokenBudget
from jaxcram.devices import configuration, device_memory, mesh, private, processes
from jaxcram.devices.compilation import cache_directory
from jaxcram.devices.packed import Packed
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.results import disk

# Used where nothing was measured. A pass of the bundled model takes 0.12 ms + 0.034 ms per token on one kind
# of CPU core and 0.30 ms + 0.028 ms on another, and the 2 ms around a chunk of 16 passes add 0.12 ms
# per pass: knees of 7 and 15 tokens.
DEFAULT_COST = {"cpu": PassCost(192, 10.0)}
ACCELERATOR_COST = PassCost(16_384, 1024.0)
LENGTH = 64  # padded tokens of a lane in the timed passes
MOST_TOKENS = 65_536  # of a timed pass
STILL_GAINING = 1.1  # tokens per second must grow by this factor for four times the tokens in a pass
SLOW = 0.5  # seconds; larger passes are not tried once one takes longer
ROUND_S = 0.1  # seconds of one timed round of chunks; the best of ten rounds counts, of three if slow
_PASSES = 4  # of a timed chunk


def known_cost(settings: CramSettings) -> PassCost | None:
    """What passes cost by the settings alone; None where it is to be measured."""
    budget = settings.token_budget
    if budget == TokenBudget("auto"):
        return None
    return PassCost(int(budget)) if budget else DEFAULT_COST.get(jax.default_backend(), ACCELERATOR_COST)


def cost_for(model: Decoder, settings: CramSettings, tell: Callable[[str], None]) -> tuple[PassCost, str]:
    """What passes cost here, and a note on it where it was measured; see `pass_cost`."""
    if cost := known_cost(settings):
        return cost, ""
    return pass_cost(model, settings.num_memory, bool(settings.remat), tell)


def pass_cost(
    model: Decoder, num_memory: int, remat: bool, tell: Callable[[str], None] = lambda line: None
) -> tuple[PassCost, str]:
    """The cost of passes with this model on this device, and a line for the user that says its origin.

    The first call measures it, which takes some seconds, and stores it in the compilation cache: later runs
    then use the same shapes and get the same rounding. `tell` shows a line before the measurement.
    """
    directory = cache_directory()
    identity = [
        repr(model.config),
        str(model.dtype),
        _device(),
        mesh.of(model).shape_tuple,
        num_memory,
        remat,
        jax.__version__,
        importlib.metadata.version("jaxcram"),
    ]
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    file = None if directory is None else directory / f"pass_cost_{key}.json"
    known = _agreed(*(_stored(file) or (0, 0.0)))
    if known.token_budget:
        return known, f"{_described(known)} (measured before; remove {file} to measure again)"
    tell("measuring once how many tokens a pass should hold on this device")
    start = time.perf_counter()
    cost = _agreed(*dataclasses.astuple(fit(list(timed(model, num_memory, remat)))))
    if file is not None:
        with suppress(OSError, UserError):  # without the file, the next start only measures again
            file.parent.mkdir(parents=True, exist_ok=True)
            disk.replace(file, json.dumps(dataclasses.asdict(cost)).encode() + b"\n")
    return cost, f"{_described(cost)} (measured in {time.perf_counter() - start:.0f} s)"


def _device() -> str:
    """The kind of device; for a CPU, its model name."""
    kind = jax.devices()[0].device_kind
    return mesh.cpu_model() if kind == "cpu" else kind


def _described(cost: PassCost) -> str:
    return f"token budget {cost.token_budget}; the fixed cost of a pass equals {cost.knee:.0f} tokens"


def _stored(file: Path | None) -> tuple[int, float] | None:
    """Token budget and knee that an earlier run measured; None if there are none or the file is damaged."""
    try:
        values = json.loads(file.read_text()) if file else {}
        return int(values["token_budget"]), float(values["knee"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _agreed(token_budget: int, knee: float) -> PassCost:
    """The values of process 0, so that all processes choose the same shapes."""
    if jax.process_count() > 1:
        both = private.broadcast_one_to_all(np.array([token_budget, knee]))
        token_budget, knee = int(both[0]), float(both[1])
    return PassCost(token_budget, knee)


def timed(model: Decoder, num_memory: int, remat: bool) -> Iterator[tuple[int, float]]:
    """Yields (padded tokens, seconds) of passes on one device, with four times the lanes each time.

    Ends when larger passes are no longer faster per token or take too long. If one does not fit into the
    device's memory, the last pass has twice the lanes of the largest that fitted.
    """
    count, factor, rate = 1, 4, 0.0
    length = min(LENGTH, model.config.max_positions - num_memory + 1)
    while count * length <= MOST_TOKENS:
        bucket = Bucket(length, count)
        try:
            seconds = _seconds(model, bucket, num_memory, remat)
        except JaxRuntimeError as error:
            if not device_memory.ran_out(error):
                raise
            if count == 1 or processes.count() > 1:  # a process must not end the search on its own
                raise UserError(
                    f"token_budget=auto: out of device memory at {count} lanes of {length} tokens; give "
                    "token_budget=N instead, or remat"
                ) from error
            if factor == 2:
                return
            count, factor = count // 2, 2
            continue
        tokens = count * length
        seconds = _agreed(tokens, seconds).knee  # so that all processes stop at the same pass
        yield tokens, seconds
        if tokens / seconds < STILL_GAINING * rate or seconds > SLOW or factor == 2:
            return
        rate, count = tokens / seconds, count * factor


def _seconds(model: Decoder, bucket: Bucket, num_memory: int, remat: bool) -> float:
    """Seconds of one pass while all device groups run the same chunk; lanes never end."""
    whole = mesh.of(model)
    # On CPU `apart` returns one group more than there are cores; leave it out.
    groups = [model] if whole.is_multi_process else mesh.apart(model)[: whole.shape[mesh.LANES]]
    endless = StageSettings(mode="full", max_steps=2**30)
    settings = PassSettings(stages=endless, chunk_passes=_PASSES, remat=remat)

    def fresh(group: Decoder) -> Packed[lanes.Lanes]:
        devices = mesh.of(group)
        batch = bucket.lanes * mesh.places(devices)
        pool = lanes.init_pool(
            lanes.Problem(
                jnp.zeros((batch, bucket.tokens), jnp.int32),
                jnp.full(batch, bucket.tokens, jnp.int32),
                jnp.full(batch, 1e-9),
            ),
            jnp.zeros((batch, num_memory, model.config.width)),
            settings,
        )
        return mesh.replicated(Packed.of(pool, mesh.places(devices)), devices)

    def chunks(group: Decoder, pool: Packed[lanes.Lanes], count: int = 1) -> Packed[lanes.Lanes]:
        abstract = mesh.of(group).abstract_mesh
        for _ in range(count):
            pool, _ = chunk.run_chunk(group, pool, bucket, settings, abstract)
        return jax.block_until_ready(pool)

    pools = [chunks(group, fresh(group)) for group in groups]  # the first call compiles
    with configuration.threads(len(groups)) as threads:

        def seconds_of(count: int) -> float:
            start = time.perf_counter()
            pools[:] = threads.map(chunks, groups, pools, [count] * len(groups))
            return _agreed(1, (time.perf_counter() - start) / count / _PASSES).knee

        once = seconds_of(1)
        if once > SLOW:
            return once
        count = max(1, int(ROUND_S / once / _PASSES))
        return min(seconds_of(count) for _ in range(10 if count > 1 else 3))


def fit(points: list[tuple[int, float]]) -> PassCost:
    """Fits seconds = rate * (knee + tokens) to measured (tokens, seconds), by least relative squares.

    The budget is the largest number of tokens that still raised the tokens per second: by `STILL_GAINING` for
    four times the tokens, by its square root for twice as many.
    """
    tokens, seconds = np.array(points, float).T
    design = np.stack([np.ones_like(tokens), tokens], axis=1) / seconds[:, None]
    (fixed, rate), *_ = np.linalg.lstsq(design, np.ones_like(seconds), rcond=None)
    speed = tokens / seconds
    least = STILL_GAINING ** np.emath.logn(4, tokens[1:] / tokens[:-1])
    gained = np.append(0, 1 + np.flatnonzero(speed[1:] >= least * speed[:-1]))
    knee = fixed / rate if rate > 0 else tokens[-1]
    return PassCost(int(tokens[gained[-1]]), max(1.0, float(knee)))
