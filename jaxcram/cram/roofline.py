"""How long passes of a model take on this device: a first guess from single products, then a real pass."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.lanes import Bucket, Lanes, PassSettings, Problem, init_pool
from jaxcram.cram.plan import PassTime
from jaxcram.devices import mesh, processes
from jaxcram.models.decoder import Decoder
from jaxcram.models.layers import project

SECONDS = 0.5  # of repetitions of one measurement; the fastest counts
# Rows of the product that measures the rate of arithmetic: the first count that takes several times as long
# as its dispatch. On an H200 1,024 rows of a small model vanish in the 0.1 ms of every dispatch.
ROWS = (1024, 8192, 65_536)
DISPATCHES = 4
# Of the rate of one large product that a whole pass reaches: 0.74 to 0.79 measured on CPU (SmolLM2-135M).
EFFICIENCY = 0.75
CACHED = 2**24  # bytes of weights that stay in a processor's cache
# To start the kernels of a layer and for the host's work: of the bundled model's four 0.24 ms a pass.
LAYER_S = 6e-5
SEVERAL = 3  # passes of a chunk that is measured, where a whole one would take too long
_TOKENS = 16  # ids that every vocabulary has


def at_once(model: Decoder) -> int:
    """How many passes run at once: one on each device; on a CPU, whose devices are its cores, it depends.

    Weights that stay in the cache are too small to occupy all cores in one pass, so each core runs its own.
    Larger ones are read from memory, as fast for one pass on all cores as for several, which would each read
    them.
    """
    whole = mesh.of(model)
    small = sum(leaf.nbytes for leaf in jax.tree.leaves(model)) <= CACHED
    return mesh.places(whole) if small or not mesh.shares_cores(whole) else 1


def guessed(model: Decoder) -> PassTime:
    """The time of a pass from the bytes of the weights and the FLOPs of a token, without running one.

    A pass reads all weights twice, forward and backward, and computes 4 FLOPs for each of them and every
    token. The bandwidth is that of the head with a single row; weights that stay in the cache cost nothing to
    read. The rate is that of a matrix of the MLP's size with so many rows that their arithmetic shows.
    """
    config, whole = model.config, mesh.of(model)
    parts = whole.size // mesh.places(whole)  # over which the weights are sharded
    head = config.vocab_size * config.width
    weights = sum(leaf.size for leaf in jax.tree.leaves(model))
    if not config.tied_head:
        weights -= head  # of the input embedding a pass reads a few rows
    mlp_FxD = jnp.ones((max(1, config.mlp_width // parts), config.width), model.dtype)
    dispatch_s = _product_s(1, jnp.ones((1, config.width), model.dtype))
    read_s = 0.0
    if weights * model.dtype.itemsize > CACHED:
        read_s = max(0.0, _product_s(1, model.head.weight) - dispatch_s) * weights / head
    for rows in ROWS:
        product_s = _product_s(rows, mlp_FxD)
        if product_s > DISPATCHES * dispatch_s:
            break
    # Of a device that hides even the largest product no more is known than that it takes no longer than that.
    row_s = (product_s - dispatch_s if product_s > dispatch_s else product_s) / rows
    token_s = row_s * weights / parts / mlp_FxD.size
    return PassTime(config.num_layers * LAYER_S + 2 * read_s, 2 * token_s / EFFICIENCY)


def _product_s(rows: int, weight_FxD: jax.Array) -> float:
    """Seconds of a product of so many rows with a matrix, as fast as it gets, with its dispatch."""
    x_RxD = jnp.ones((rows, weight_FxD.shape[1]), weight_FxD.dtype)
    product = jax.jit(project)
    product(x_RxD, weight_FxD).block_until_ready()  # compiles

    def once() -> float:
        start = time.perf_counter()
        product(x_RxD, weight_FxD).block_until_ready()
        return time.perf_counter() - start

    return fastest(once, SECONDS / 10)


def measured(
    groups: DeviceGroups, mem_shape: tuple[int, int], bucket: Bucket, settings: PassSettings
) -> float:
    """Seconds of a pass of a bucket while every group runs one; the program is the run's own.

    Args:
        groups: of the run.
        mem_shape: memory embeddings of a lane, and width of the model.
        bucket: padded shape of the pass on one device.
        settings: of the run's passes.
    """

    def seconds(passes: int) -> float:
        return groups.seconds(
            lambda seats: _ending(seats, bucket, mem_shape, settings, passes), bucket, settings
        )

    seconds(1)  # compiles
    once = seconds(1)
    if not processes.from_first(lambda: settings.chunk_passes * once > SECONDS):
        return fastest(lambda: seconds(settings.chunk_passes), SECONDS)
    passes, once = min(SEVERAL, settings.chunk_passes), min(once, seconds(1))
    if passes == 1:
        return once
    # A whole chunk would take too long; what its start costs, such as another layout of the weights, shows in
    # the difference between a chunk of one pass and one of several.
    several = min(seconds(passes), seconds(passes))
    start_s = min(once, max(0.0, (once - several) * passes / (passes - 1)))
    return once - start_s + start_s / settings.chunk_passes


def fastest(seconds: Callable[[], float], at_most: float) -> float:
    """The least of several measurements: as many as `at_most` seconds allow, and at least three.

    Exactly three with several processes, which have to run the same programs.
    """
    found, end = [seconds(), seconds(), seconds()], time.perf_counter() + at_most
    while processes.count() == 1 and time.perf_counter() < end and len(found) < 100:
        found.append(seconds())
    return min(found)


def _ending(
    count: int, bucket: Bucket, mem_shape: tuple[int, int], settings: PassSettings, passes: int
) -> Lanes:
    """Lanes that reach their cap on steps after so many passes, as numpy arrays.

    Memory and tokens are random. From zeros the gradient through the norms of many layers is not finite, and
    one token repeated may be reproduced: either would end a lane early.
    """
    rng = np.random.default_rng(0)
    problem = Problem(
        jnp.asarray(rng.integers(0, _TOKENS, (count, bucket.tokens)), jnp.int32),
        jnp.full(count, bucket.tokens, jnp.int32),
        jnp.full(count, 1e-9),
    )
    params = settings.parametrization.init(rng.standard_normal((count, *mem_shape), np.float32))
    fresh = init_pool(problem, jax.tree.map(jnp.asarray, params), settings)
    steps = jnp.full(count, max(0, settings.stages.max_steps - passes + 1), jnp.int32)
    progress = fresh.progress._replace(total_steps=steps, prefix=problem.length.copy())
    return jax.tree.map(np.array, fresh._replace(progress=progress))
