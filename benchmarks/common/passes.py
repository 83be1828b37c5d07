"""jaxcram's passes timed: their FLOPs, the machine's matrix rate, passes over one full bucket, whole runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.cram import lanes
from jaxcram.cram.chunk import run_chunk
from jaxcram.cram.engine import Engine
from jaxcram.cram.fit import Fit, fit_run
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.progress import Progress
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.cram.start import jobs_of
from jaxcram.devices import mesh
from jaxcram.devices.packed import Packed
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import Sample


def seconds(action: Callable[[], Any], repeats: int) -> list[float]:
    """Wall time of each of `repeats` calls of `action`, which must wait for its own result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def matmul_rate(dtype: Any, *, size: int = 0, repeats: int = 8) -> float:
    """FLOP/s of one large matrix product on the default device, the best of `repeats`.

    Args:
        dtype: of both factors and the product.
        size: rows of the square factors; 0 takes 2048 on CPU and 8192 elsewhere.
        repeats: measurements; the best one is what the machine can do.
    """
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    # Random: a GPU draws less power, and so runs faster, on numbers that are all the same.
    factor = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(factor, factor).block_until_ready()
    return 2 * size**3 / min(seconds(lambda: product(factor, factor).block_until_ready(), repeats))


def read_rate(*, size: int = 2**27, repeats: int = 8) -> float:
    """Bytes/s of reading a large fp32 array on the default device, the best of `repeats`.

    Args:
        size: numbers of the array, by default half a gigabyte: more than a CPU's caches hold.
        repeats: measurements.
    """
    numbers, total = jnp.ones(size), jax.jit(jnp.sum)
    total(numbers).block_until_ready()
    return numbers.nbytes / min(seconds(lambda: total(numbers).block_until_ready(), repeats))


def weight_bytes(model: Decoder) -> int:
    """Bytes of weights that one pass reads: matrices of the layers and the head, forward and back."""
    layers = sum(leaf.nbytes for leaf in jax.tree.leaves(model.layers))
    head = model.config.vocab_size * model.config.width
    return 2 * (layers + head * model.dtype.itemsize)


def pass_flops(model: Decoder, bucket: Bucket, num_memory: int = 1) -> int:
    """Model FLOPs of one forward-and-backward pass over a bucket of B lanes with T target tokens.

    With S = K + T - 1 positions and P matrix weights in a layer:

        B * ( L * (4 * S * P  +  12 * S^2 * H * C)  +  4 * T * V * D )

    Weights are frozen, so a product y = x W costs 2 S P forward and 2 S P for the gradient towards x, and
    nothing for W: twice the forward pass, where training costs three times. Attention's two products (scores,
    values) have two gradients each, so 3 * 4 S^2 H C; the square is counted whole, its masked half included,
    as is customary. The head is one product forward and one back. Element-wise work and recomputation are
    not counted.
    """
    config = model.config
    # Of one layer: matrices have two axes, norms and biases one.
    layer = jax.eval_shape(lambda model: model.blocks[0], model)
    layer_weights = config.num_layers * sum(leaf.size for leaf in jax.tree.leaves(layer) if leaf.ndim == 2)
    positions = num_memory + bucket.tokens - 1
    attention = 12 * config.num_layers * positions**2 * config.num_heads * config.head_size
    head = 4 * bucket.tokens * config.vocab_size * config.width
    return bucket.lanes * (4 * positions * layer_weights + attention + head)


@dataclasses.dataclass
class Tally:
    """Work done in passes, as `Progress` of a run counts it, with the model FLOPs and the wall time of it."""

    passes: int = 0
    lane_steps: int = 0
    useful_tokens: int = 0
    paid_tokens: int = 0
    flops: int = 0
    wall_s: float = 0.0

    @classmethod
    def of(cls, done: Progress, wall_s: float) -> Tally:
        """What a run has done so far; FLOPs are not counted."""
        return cls(done.passes, done.lane_steps, done.useful_tokens, done.paid_tokens, wall_s=wall_s)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*map(operator.sub, dataclasses.astuple(self), dataclasses.astuple(other)))


def full_bucket(
    model: Decoder, bucket: Bucket, *, chunk_passes: int = 8, num_memory: int = 1, remat: bool = False
) -> Callable[[], Tally]:
    """A chunk in which every lane is active and every token is useful: random targets as long as the bucket.

    Returns a function that runs one chunk of `chunk_passes` on every device of the model's mesh, waits for it
    and returns its work. The chunk has been compiled and run once before.
    """
    devices = mesh.of(model)
    shards = mesh.places(devices)
    total = bucket.lanes * shards
    rng = np.random.default_rng(0)
    tokens_SxT = rng.integers(0, model.config.vocab_size, (total, bucket.tokens), np.int32)
    mem_SxKxD = rng.uniform(0, 0.02, (total, num_memory, model.config.width)).astype(np.float32)
    length_S = jnp.full(total, bucket.tokens, jnp.int32)
    endless = StageSettings(mode="full", max_steps=2**30)
    settings = PassSettings(stages=endless, chunk_passes=chunk_passes, remat=remat)
    peak_S = jnp.full(total, 1e-9)  # so small that no lane learns its target and ends
    problem = lanes.Problem(jnp.asarray(tokens_SxT), length_S, peak_S)
    pool = lanes.init_pool(problem, jnp.asarray(mem_SxKxD), settings)
    pool = mesh.replicated(Packed.of(pool, shards), devices)
    flops = pass_flops(model, bucket, num_memory)

    def chunk() -> Tally:
        nonlocal pool
        start = time.perf_counter()
        pool, result = jax.block_until_ready(run_chunk(model, pool, bucket, settings, devices))
        wall_s = time.perf_counter() - start
        result = jax.device_get(result).unpack()
        passes_R = result.passes
        passes = int(passes_R.max())  # a device that waits for the slowest one counts too
        return Tally(
            passes * len(passes_R),
            int(result.lane_steps.sum()),
            int(result.useful_tokens.sum()),
            passes * total * bucket.tokens,
            passes * len(passes_R) * flops,
            wall_s,
        )

    chunk()
    return chunk


def parse_buckets(shapes: Sequence[str]) -> list[Bucket]:
    """The shapes of a flag `--passes`, lanes x tokens, such as 8x64.

    Raises:
        UserError: one is written differently.
    """
    matches = [re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", shape) for shape in shapes if shape]
    if None in matches:
        raise UserError(f"--passes={','.join(shapes)}: write shapes like 8x64,25x32")
    return [Bucket(lanes=int(match[1]), tokens=int(match[2])) for match in matches if match]


@dataclasses.dataclass
class RunResult:
    """A whole run.

    Attributes:
        outcomes: of the lanes, in the order of the jobs.
        total: the work; FLOPs are not counted.
        buckets: the shapes of passes in which stages ended, which are all that a run has used.
        fit: to the devices.
    """

    outcomes: list[Outcome]
    total: Tally
    buckets: list[Bucket]
    fit: Fit


def whole_run(
    model: Decoder, samples: list[Sample], settings: CramSettings, before: Fit | None = None
) -> RunResult:
    """Cram all samples at all learning rates; the time includes set-up and compilation.

    Args:
        model: the frozen decoder.
        samples: the texts.
        settings: the procedure.
        before: the fit of an earlier run, whose passes then have the same shapes, as at a resume; None makes
            one, which is timed too.
    """
    start = time.perf_counter()
    jobs = jobs_of(samples, settings)
    fit = fit_run(model, settings, [len(sample.tokens) for sample in samples], before)
    engine = Engine(model, samples, settings, jobs, fit)
    ended = list(engine.lanes(lambda progress: None))
    total = Tally.of(engine.progress, time.perf_counter() - start)
    outcomes = {one.outcome.job: one.outcome for one in ended}
    shapes = {Bucket(row["bucket_tokens"], row["bucket_lanes"]) for one in ended for row in one.rows}
    return RunResult([outcomes[job] for job in jobs], total, sorted(shapes), engine.fit)


@contextlib.contextmanager
def tallied_by_bucket(model: Decoder, num_memory: int = 1) -> Iterator[dict[Bucket, Tally]]:
    """Counts the chunks that a run takes inside the block by their bucket, with FLOPs once the block ends.

    A chunk's time is that since the previous chunk was booked, on whichever device, so the times add up to
    the run's, the host's work included.
    """
    tallies: dict[Bucket, Tally] = {}
    book, last = Engine._book, time.perf_counter()

    @functools.wraps(book)
    def counted(self: Engine, chunk: Any, result: Any) -> Any:
        nonlocal last
        before = Tally.of(self.progress, last)
        ended = book(self, chunk, result)
        last, bucket = time.perf_counter(), chunk.turn.bucket
        tallies[bucket] = tallies.get(bucket, Tally()) + (Tally.of(self.progress, last) - before)
        return ended

    with mock.patch.object(Engine, "_book", counted):
        yield tallies
    for bucket, tally in tallies.items():
        tally.flops = tally.passes * pass_flops(model, bucket, num_memory)
