"""A chunk: passes over the lanes of one bucket in one device loop, compiled once per bucket."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from jaxcram.cram.lanes import Bucket, Lanes, PassSettings, Record, State, can_go_on, one_pass
from jaxcram.devices.mesh import exchanges, places, replicate, spread
from jaxcram.devices.packed import Packed
from jaxcram.models.decoder import Decoder


class ChunkResult(NamedTuple):
    """What a chunk reports; a batch has S seats, device by device, on R devices.

    Attributes:
        passes: passes that each device ran [R].
        lane_steps, useful_tokens: steps taken, and tokens of unfinished lanes' prefixes, by device [R].
        state: state of the batch after the chunk, [S, ..].
        records: records of every seat and pass, [S, P, ..]; filled up to the number of passes of the device.
    """

    passes: jax.Array
    lane_steps: jax.Array
    useful_tokens: jax.Array
    state: State
    records: Record


@functools.partial(jax.jit, static_argnames=("bucket", "settings", "mesh"), donate_argnames="seats")
def run_chunk(
    model: Decoder,
    seats: Packed[Lanes],
    bucket: Bucket,
    settings: PassSettings,
    mesh: Mesh | AbstractMesh,
    floor: jax.Array | int = 1,
) -> tuple[Packed[Lanes], Packed[ChunkResult]]:
    """Run passes over lanes, on every place of the mesh over its own share of them.

    Args:
        model: the frozen decoder.
        seats: the lanes, `bucket.lanes` for each place of the mesh in turn, whole on every device; donated,
            so the caller's arrays are gone.
        bucket: the padded shape; one trace each.
        settings: the procedure.
        mesh: that of the model; its devices do not matter.
        floor: a device stops early once fewer of its lanes than this can go on; an array, so that another
            value does not recompile.

    Returns:
        The lanes after the chunk, and the chunk's result, both whole on every device.
    """
    lanes = replicate(seats.unpack(), mesh)  # or XLA adds an all-reduce
    # Devices that share a model exchange something in every pass, so none of them may stop on its own.
    least = 0 if exchanges(mesh) else floor

    def share(model: Decoder, lanes: Lanes) -> ChunkResult:
        result = _passes(model, lanes, bucket.tokens, settings, least)
        here = lanes.problem.length.shape[0] // bucket.lanes
        return result._replace(passes=jnp.full(here, result.passes))

    result = spread(share, mesh)(model, lanes)
    after = Packed.of(lanes._replace(**result.unpack().state._asdict()), places(mesh))
    # Whole on every device, as they came: otherwise the donated buffers would not fit them.
    return replicate(after, mesh), result


def _passes(
    model: Decoder,
    lanes: Lanes,
    length: int,
    settings: PassSettings,
    floor: jax.Array | int,
) -> ChunkResult:
    """The part of a chunk of one place on the `lanes` axis."""
    blank = jax.eval_shape(lambda x: one_pass(model, x, length, settings)[1], lanes)
    records = jax.tree.map(
        lambda x: jnp.zeros((x.shape[0], settings.chunk_passes, *x.shape[1:]), x.dtype), blank
    )
    zero = jnp.zeros((), jnp.int32)

    def go_on(carry: tuple) -> jax.Array:
        done, _, _, lanes, _ = carry
        return (done < settings.chunk_passes) & (jnp.sum(can_go_on(lanes.progress, length)) >= floor)

    def step(carry: tuple) -> tuple:
        done, lane_steps, useful, lanes, records = carry
        active_B = can_go_on(lanes.progress, length)
        after, record = one_pass(model, lanes, length, settings)
        records = jax.tree.map(lambda all_, one: all_.at[:, done].set(one), records, record)
        lane_steps += jnp.sum(after.progress.total_steps - lanes.progress.total_steps)
        useful += jnp.sum(jnp.where(active_B, lanes.progress.prefix, 0))
        return done + 1, lane_steps, useful, after, records

    done, lane_steps, useful, lanes, records = jax.lax.while_loop(
        go_on, step, (zero, zero, zero, lanes, records)
    )
    return ChunkResult(done, lane_steps[None], useful[None], lanes.state, records)
