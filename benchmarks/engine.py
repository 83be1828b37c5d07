"""jaxcram's engine under a stopwatch: passes over one full bucket, and whole progressive runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import measure
import numpy as np

from jaxcram.cram import lanes, run
from jaxcram.cram.lanes import Bucket, ChunkResult, Lanes, PassSettings
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.models.decoder import Decoder
from jaxcram.text import Sample


@dataclasses.dataclass
class Tally:
    """Work done in passes, as `Progress` of a run counts it, and the model FLOPs of it."""

    passes: int = 0
    lane_steps: int = 0
    useful_tokens: int = 0
    paid_tokens: int = 0
    flops: int = 0
    wall_s: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))


def _tally(model: Decoder, bucket: Bucket, num_memory: int, result: ChunkResult, wall_s: float) -> Tally:
    counts = jax.device_get((result.passes, result.lane_steps, result.useful_tokens))
    passes, lane_steps, useful_tokens = map(int, counts)
    paid_tokens = passes * bucket.lanes * bucket.tokens
    flops = passes * measure.pass_flops(model, bucket, num_memory)
    return Tally(passes, lane_steps, useful_tokens, paid_tokens, flops, wall_s)


def full_bucket(
    model: Decoder, bucket: Bucket, *, chunk_passes: int = 8, num_memory: int = 1, remat: bool = False
) -> Callable[[], Tally]:
    """A chunk in which every lane is busy and every token useful: random targets as long as the bucket.

    Returns an action that runs one chunk of `chunk_passes`, waits for it and tells its work; the chunk is
    compiled before that.
    """
    rng = np.random.default_rng(0)
    tokens_BxT = rng.integers(0, model.config.vocab_size, (bucket.lanes, bucket.tokens), np.int32)
    mem_BxKxD = rng.uniform(0, 0.02, (bucket.lanes, num_memory, model.config.width)).astype(np.float32)
    length_B = jnp.full(bucket.lanes, bucket.tokens, jnp.int32)
    endless = StageSettings(mode="full", max_steps=2**30)
    settings = PassSettings(stages=endless, chunk_passes=chunk_passes, remat=remat)
    # A rate so small that nothing is learned: no lane ever ends.
    peak_B = jnp.full(bucket.lanes, 1e-9)
    pool = lanes.init_pool(jnp.asarray(tokens_BxT), length_B, peak_B, jnp.asarray(mem_BxKxD), settings)
    slots_B = jnp.arange(bucket.lanes, dtype=jnp.int32)

    def chunk() -> Tally:
        start = time.perf_counter()
        _, result = jax.block_until_ready(lanes.run_chunk(model, pool, slots_B, bucket, settings))
        return _tally(model, bucket, num_memory, result, time.perf_counter() - start)

    chunk()
    return chunk


@contextlib.contextmanager
def metered() -> Iterator[dict[Bucket, Tally]]:
    """Books the chunks that are run inside the block by their bucket; the dictionary is filled when it ends.

    A chunk's time runs until the next one is dispatched, so it includes the host's part.
    """
    tallies: dict[Bucket, Tally] = {}
    chunks: list[tuple[float, Bucket, Callable[[float], Tally]]] = []
    run_chunk = lanes.run_chunk

    @functools.wraps(run_chunk)
    def watched(
        model: Decoder, pool: Lanes, slots_B: jax.Array, bucket: Bucket, settings: PassSettings
    ) -> tuple[Lanes, ChunkResult]:
        start = time.perf_counter()
        after, result = run_chunk(model, pool, slots_B, bucket, settings)
        # The counts only: the records of all chunks together would fill the memory.
        counts = result._replace(progress=None, records=None)
        chunks.append((start, bucket, functools.partial(_tally, model, bucket, pool.mem.shape[1], counts)))
        return after, result

    with mock.patch.object(lanes, "run_chunk", watched):
        yield tallies
    ends = [start for start, _, _ in chunks[1:]] + [time.perf_counter()]
    for (start, bucket, tally), end in zip(chunks, ends, strict=True):
        tallies[bucket] = tallies.get(bucket, Tally()) + tally(end - start)


@dataclasses.dataclass
class RunResult:
    """A whole run: its lanes in the order of its jobs, its work in all (and wall time) and by bucket."""

    outcomes: list[Outcome]
    total: Tally
    buckets: dict[Bucket, Tally]


def whole_run(model: Decoder, samples: list[Sample], settings: CramSettings) -> RunResult:
    """Cram all samples at all learning rates; the time includes set-up and what has to be compiled."""
    jobs = run.jobs_of(samples, settings)
    start = time.perf_counter()
    with metered() as buckets:
        whole = run.Run(model, samples, settings, jobs, len(jobs))
        finished = {outcome.job: outcome for outcome, _ in whole.lanes(lambda progress: None)}
        wall_s = time.perf_counter() - start
    total = dataclasses.replace(sum(buckets.values(), Tally()), wall_s=wall_s)
    return RunResult([finished[job] for job in jobs], total, dict(buckets))
