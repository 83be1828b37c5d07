"""What passes cost on this device, measured once: how many tokens a pass should hold."""

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

from jaxcram.cram import lanes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.scheduler import PassCost
from jaxcram.cram.settings import CramSettings, StageSettings, TokenBudget
from jaxcram.devices import configuration, device_memory, mesh, private, processes
from jaxcram.devices.compilation import cache_directory
from jaxcram.devices.packed import Packed
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.results import disk

# Where nobody measured. A pass of the bundled model takes 0.12 ms + 0.034 ms a token on one kind of CPU core,
# 0.30 ms + 0.028 ms a token on another, and the 2 ms around a chunk of 16 come to another 0.12 ms: knees of 7
# and 15 tokens.
DEFAULT_COST = {"cpu": PassCost(192, 10.0)}
ACCELERATOR_COST = PassCost(16_384, 1024.0)
LENGTH = 64  # tokens of a lane in the passes that are timed
MOST_TOKENS = 65_536
STILL_GAINING = 1.1  # four times the tokens are worth it if each comes this much faster
SLOW = 0.5  # seconds of a pass beyond which more tokens are worth no further search
ROUND_S = 0.1  # seconds of a round of quick chunks; the best of ten counts, and of three slow ones
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
    """The cost of passes over this model on this device, and a line that says where it comes from.

    Measured in some seconds at the first call and kept beside the compiled programs, so that later runs have
    the same shapes, and with them the same roundings. `tell` is called before that.
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
        return known, f"{_told(known)} (measured before; removing {file} has it measured again)"
    tell("measuring how many tokens a pass should hold on this device, once")
    start = time.perf_counter()
    cost = _agreed(*dataclasses.astuple(fit(list(timed(model, num_memory, remat)))))
    if file is not None:
        with suppress(OSError, UserError):  # a cache that cannot be written costs the next start some seconds
            file.parent.mkdir(parents=True, exist_ok=True)
            disk.replace(file, json.dumps(dataclasses.asdict(cost)).encode() + b"\n")
    return cost, f"{_told(cost)} (measured in {time.perf_counter() - start:.0f} s)"


def _device() -> str:
    """The kind of device; of a CPU the model."""
    kind = jax.devices()[0].device_kind
    return mesh.cpu_model() if kind == "cpu" else kind


def _told(cost: PassCost) -> str:
    return f"token budget {cost.token_budget}; starting a pass costs as much as {cost.knee:.0f} of its tokens"


def _stored(file: Path | None) -> tuple[int, float] | None:
    """What an earlier run has measured; a file that is damaged is measured anew."""
    try:
        values = json.loads(file.read_text()) if file else {}
        return int(values["token_budget"]), float(values["knee"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _agreed(token_budget: int, knee: float) -> PassCost:
    """Process 0's numbers, so that all processes choose the same shapes."""
    if jax.process_count() > 1:
        both = private.broadcast_one_to_all(np.array([token_budget, knee]))
        token_budget, knee = int(both[0]), float(both[1])
    return PassCost(token_budget, knee)


def timed(model: Decoder, num_memory: int, remat: bool) -> Iterator[tuple[int, float]]:
    """Tokens of passes on one device, and seconds of one: ever more lanes, while that gains and fits.

    Every pass has four times the lanes of the one before, but for the last one: where those do not fit,
    twice as many may.
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
            if count == 1 or processes.count() > 1:  # one process cannot end the search alone
                raise UserError(
                    f"token_budget=auto: out of device memory at {count} lanes of {length} tokens; give "
                    "token_budget=N instead, or remat"
                ) from error
            if factor == 2:
                return
            count, factor = count // 2, 2
            continue
        tokens = count * length
        seconds = _agreed(tokens, seconds).knee  # all stop at the same pass
        yield tokens, seconds
        if tokens / seconds < STILL_GAINING * rate or seconds > SLOW or factor == 2:
            return
        rate, count = tokens / seconds, count * factor


def _seconds(model: Decoder, bucket: Bucket, num_memory: int, remat: bool) -> float:
    """Seconds of one pass while every place runs the same and the host is ahead; no lane ever ends."""
    whole = mesh.of(model)
    # On CPU there is one place more than cores, for the time in which a run's host is busy.
    members = [model] if whole.is_multi_process else mesh.apart(model)[: whole.shape[mesh.LANES]]
    endless = StageSettings(mode="full", max_steps=2**30)
    settings = PassSettings(stages=endless, chunk_passes=_PASSES, remat=remat)

    def fresh(member: Decoder) -> Packed[lanes.Lanes]:
        devices = mesh.of(member)
        seats = bucket.lanes * mesh.places(devices)
        pool = lanes.init_pool(
            lanes.Problem(
                jnp.zeros((seats, bucket.tokens), jnp.int32),
                jnp.full(seats, bucket.tokens, jnp.int32),
                jnp.full(seats, 1e-9),
            ),
            jnp.zeros((seats, num_memory, model.config.width)),
            settings,
        )
        return mesh.replicated(Packed.of(pool, mesh.places(devices)), devices)

    def chunks(member: Decoder, pool: Packed[lanes.Lanes], count: int = 1) -> Packed[lanes.Lanes]:
        abstract = mesh.of(member).abstract_mesh
        for _ in range(count):
            pool, _ = lanes.run_chunk(member, pool, bucket, settings, abstract)
        return jax.block_until_ready(pool)

    pools = [chunks(member, fresh(member)) for member in members]  # compiles, once for places that are alike
    with configuration.threads(len(members)) as threads:

        def seconds_of(count: int) -> float:
            start = time.perf_counter()
            pools[:] = threads.map(chunks, members, pools, [count] * len(members))
            return _agreed(1, (time.perf_counter() - start) / count / _PASSES).knee

        once = seconds_of(1)
        if once > SLOW:
            return once
        count = max(1, int(ROUND_S / once / _PASSES))
        return min(seconds_of(count) for _ in range(10 if count > 1 else 3))


def fit(points: list[tuple[int, float]]) -> PassCost:
    """Budget and knee of measured (tokens, seconds): seconds = rate * (knee + tokens), by relative errors.

    The budget is the largest one tried that still gained: `STILL_GAINING` for four times the tokens, and the
    root of that for twice as many.
    """
    tokens, seconds = np.array(points, float).T
    design = np.stack([np.ones_like(tokens), tokens], axis=1) / seconds[:, None]
    (fixed, rate), *_ = np.linalg.lstsq(design, np.ones_like(seconds), rcond=None)
    speed = tokens / seconds
    least = STILL_GAINING ** np.emath.logn(4, tokens[1:] / tokens[:-1])
    gained = np.append(0, 1 + np.flatnonzero(speed[1:] >= least * speed[:-1]))
    knee = fixed / rate if rate > 0 else tokens[-1]
    return PassCost(int(tokens[gained[-1]]), max(1.0, float(knee)))
