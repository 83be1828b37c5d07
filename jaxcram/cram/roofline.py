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
from jaxcram.devices import mesh
from jaxcram.models.decoder import Decoder

SECONDS = 0.5  # of repetitions of one measurement; the fastest counts
ROWS = 1024  # of the product that measures the rate of arithmetic
# Of the rate of one large product that a whole pass reaches: 0.74 to 0.79 measured on CPU (SmolLM2-135M).
EFFICIENCY = 0.75
_GUESS_S = 2e-4  # of starting the kernels of a pass and of the host's work, until a pass is measured


def guessed(model: Decoder) -> PassTime:
    """The time of a pass from the bytes of the weights and the FLOPs of a token, without running one.

    A pass reads all weights twice, forward and backward, and computes 4 FLOPs for each of them and every
    token. Bandwidth and rate are those of a product of one of the model's weights with a row and with many.
    """
    whole = mesh.of(model)
    parts = whole.size // mesh.places(whole)  # over which the weights are sharded
    weights = sum(leaf.size for leaf in jax.tree.leaves(model))
    if not model.config.tied_head:  # of the input embedding a pass reads a few rows
        weights -= model.config.vocab_size * model.config.width
    shape = (max(1, model.config.mlp_width // parts), model.config.width)
    weight_FxD = jnp.ones(shape, model.dtype)
    product = jax.jit(lambda x_RxD: jnp.einsum("rd,fd->rf", x_RxD, weight_FxD))

    def seconds(rows: int) -> float:
        x_RxD = jnp.ones((rows, shape[1]), model.dtype)
        jax.block_until_ready(product(x_RxD))  # compiles

        def once() -> float:
            start = time.perf_counter()
            jax.block_until_ready(product(x_RxD))
            return time.perf_counter() - start

        return fastest(once, SECONDS / 10)

    share = weights / parts / weight_FxD.size
    return PassTime(_GUESS_S + 2 * share * seconds(1), 2 * share * seconds(ROWS) / ROWS / EFFICIENCY)


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
    if settings.chunk_passes * once > SECONDS:
        return min(once, seconds(1))
    return fastest(lambda: seconds(settings.chunk_passes), SECONDS)


def fastest(seconds: Callable[[], float], at_most: float) -> float:
    """The least of several measurements: as many as `at_most` seconds allow, and at least three."""
    found, end = [seconds(), seconds(), seconds()], time.perf_counter() + at_most
    while time.perf_counter() < end and len(found) < 20:
        found.append(seconds())
    return min(found)


def _ending(
    count: int, bucket: Bucket, mem_shape: tuple[int, int], settings: PassSettings, passes: int
) -> Lanes:
    """Fresh lanes that reach their cap on steps after so many passes, as numpy arrays."""
    problem = Problem(
        jnp.zeros((count, bucket.tokens), jnp.int32),
        jnp.full(count, bucket.tokens, jnp.int32),
        jnp.full(count, 1e-9),
    )
    params = settings.parametrization.init(np.zeros((count, *mem_shape), np.float32))
    fresh = init_pool(problem, jax.tree.map(jnp.asarray, params), settings)
    steps = jnp.full(count, max(0, settings.stages.max_steps - passes + 1), jnp.int32)
    progress = fresh.progress._replace(total_steps=steps, prefix=problem.length.copy())
    return jax.tree.map(np.array, fresh._replace(progress=progress))
