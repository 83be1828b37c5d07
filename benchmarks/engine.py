"""jaxcram's engine under a stopwatch: passes over one full bucket, and whole progressive runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import operator
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import measure
import numpy as np

from jaxcram.cram import engine as run
from jaxcram.cram import lanes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.cram.start import jobs_of
from jaxcram.devices import mesh
from jaxcram.devices.packed import Packed
from jaxcram.models.decoder import Decoder
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample


@dataclasses.dataclass
class Tally:
    """Work done in passes, as `Progress` of a run counts it, and the model FLOPs of it."""

    passes: int = 0
    lane_steps: int = 0
    useful_tokens: int = 0
    paid_tokens: int = 0
    flops: int = 0
    wall_s: float = 0.0

    @classmethod
    def of(cls, done: run.Progress, wall_s: float) -> Tally:
        """What a run has done so far, in so long; FLOPs are not counted."""
        return cls(done.passes, done.lane_steps, done.useful_tokens, done.paid_tokens, wall_s=wall_s)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*map(operator.sub, dataclasses.astuple(self), dataclasses.astuple(other)))


def full_bucket(
    model: Decoder, bucket: Bucket, *, chunk_passes: int = 8, num_memory: int = 1, remat: bool = False
) -> Callable[[], Tally]:
    """A chunk in which every lane is busy and every token useful: random targets as long as the bucket.

    Returns an action that runs one chunk of `chunk_passes` on every device of the model's mesh, waits for it
    and tells its work; the chunk is compiled before that.
    """
    devices = mesh.of(model)
    seats = bucket.lanes * mesh.places(devices)
    rng = np.random.default_rng(0)
    tokens_SxT = rng.integers(0, model.config.vocab_size, (seats, bucket.tokens), np.int32)
    mem_SxKxD = rng.uniform(0, 0.02, (seats, num_memory, model.config.width)).astype(np.float32)
    length_S = jnp.full(seats, bucket.tokens, jnp.int32)
    endless = StageSettings(mode="full", max_steps=2**30)
    settings = PassSettings(stages=endless, chunk_passes=chunk_passes, remat=remat)
    # A rate so small that nothing is learned: no lane ever ends.
    peak_S = jnp.full(seats, 1e-9)
    pool = lanes.init_pool(
        lanes.Problem(jnp.asarray(tokens_SxT), length_S, peak_S), jnp.asarray(mem_SxKxD), settings
    )
    pool = mesh.replicated(Packed.of(pool, mesh.places(devices)), devices)

    flops = measure.pass_flops(model, bucket, num_memory)

    def chunk() -> Tally:
        nonlocal pool
        start = time.perf_counter()
        pool, result = jax.block_until_ready(lanes.run_chunk(model, pool, bucket, settings, devices))
        wall_s = time.perf_counter() - start
        result = jax.device_get(result).unpack()
        passes_R = result.passes
        passes = int(passes_R.max())  # devices that wait for the slowest are paid for
        return Tally(
            passes * len(passes_R),
            int(result.lane_steps.sum()),
            int(result.useful_tokens.sum()),
            passes * seats * bucket.tokens,
            passes * len(passes_R) * flops,
            wall_s,
        )

    chunk()
    return chunk


@contextlib.contextmanager
def metered() -> Iterator[dict[Bucket, Tally]]:
    """Books the chunks that a run takes inside the block by their bucket; FLOPs are not counted.

    A chunk's time goes from the one before it, on whichever device, to the moment when its rows are booked:
    so the times add up to the run's, and include the part of the host that devices do not hide.
    """
    tallies: dict[Bucket, Tally] = {}
    take, last = run.Run._book, time.perf_counter()

    @functools.wraps(take)
    def watched(self: run.Run, chunk: Any, result: Any) -> Any:
        nonlocal last
        before = Tally.of(self.progress, last)
        ended = take(self, chunk, result)
        last, bucket = time.perf_counter(), chunk.turn.bucket
        tallies[bucket] = tallies.get(bucket, Tally()) + (Tally.of(self.progress, last) - before)
        return ended

    with mock.patch.object(run.Run, "_book", watched):
        yield tallies


@dataclasses.dataclass
class RunResult:
    """A whole run: its lanes in the order of its jobs, its work in all (and wall time) and by bucket."""

    outcomes: list[Outcome]
    total: Tally
    buckets: dict[Bucket, Tally]


class _Running:
    """A run under a stopwatch that can be stopped.

    Attributes:
        wall_s: time it has taken for itself; set-up and what has to be compiled are in it.
        ended: whether all its lanes have.
    """

    def __init__(self, model: Decoder, samples: list[Sample], settings: CramSettings) -> None:
        start = time.perf_counter()
        self._jobs = jobs_of(samples, settings)
        self._run = run.Run(model, samples, settings, self._jobs, len(self._jobs))
        self._finished: dict[Job, Outcome] = {}
        self._chunks = self._run.chunks(lambda progress: None)
        self.ended = False
        self.wall_s = time.perf_counter() - start

    def go_on(self, seconds: float = math.inf) -> None:
        """Take chunks for so long, or to the end."""
        start = time.perf_counter()
        while not self.ended and time.perf_counter() - start < seconds:
            finished = next(self._chunks, None)
            self.ended = finished is None
            self._finished |= {lane.outcome.job: lane.outcome for lane in finished or ()}
        self.wall_s += time.perf_counter() - start

    def settle(self) -> None:
        """Wait until the devices are idle."""
        start = time.perf_counter()
        for place in self._run._places._places:
            for under_way in filter(None, (place.chunk, place.ahead)):
                under_way.result.result()
        self.wall_s += time.perf_counter() - start

    @property
    def num_lanes(self) -> int:
        """Those that have ended, too."""
        return len(self._jobs)

    @property
    def outcomes(self) -> list[Outcome]:
        """Its lanes in the order of its jobs, when it has ended."""
        return [self._finished[job] for job in self._jobs]

    @property
    def total(self) -> Tally:
        """Its work so far; FLOPs are not counted."""
        return Tally.of(self._run.progress, self.wall_s)


def whole_run(model: Decoder, samples: list[Sample], settings: CramSettings) -> RunResult:
    """Cram all samples at all learning rates; the time includes set-up and what has to be compiled."""
    start = time.perf_counter()  # before the clock that books chunks, or these could add up to more
    with metered() as buckets:
        one = _Running(model, samples, settings)
        one.go_on()
        wall_s = time.perf_counter() - start
    for bucket, tally in buckets.items():
        tally.flops = tally.passes * measure.pass_flops(model, bucket, settings.num_memory)
    total = dataclasses.replace(sum(buckets.values(), Tally()), wall_s=wall_s)
    return RunResult(one.outcomes, total, dict(buckets))


def runs_in_turns(
    model: Decoder, samples: list[Sample], several: list[CramSettings], seconds: float = 2.0
) -> list[tuple[list[Outcome], Tally]]:
    """Whole runs that take turns, so that a machine that gets slower meanwhile does so for all of them.

    Turns are as long as a run has lanes, so that all runs take part to the end, about. When its turn is over,
    a run waits for what it has under way, and meanwhile devices fall idle: some hundredths of a second that
    it would not lose by itself.

    Args:
        model: the frozen decoder.
        samples: the texts of every run.
        several: the settings of each.
        seconds: of a turn of the run with the fewest lanes.

    Returns:
        The lanes of each, in the order of its jobs, and its work; FLOPs are not counted.
    """
    runs = [_Running(model, samples, settings) for settings in several]
    fewest = min(one.num_lanes for one in runs)
    while under_way := [one for one in runs if not one.ended]:
        for one in [*under_way, *reversed(under_way)]:
            one.go_on(seconds * one.num_lanes / fewest)
            one.settle()
    return [(one.outcomes, one.total) for one in runs]
