"""Lanes on the device: one pass, and a chunk of passes in one device loop.

A lane is one problem: a text, a learning rate, a seed. The pool holds all lanes of a run, on the host; a
chunk is sent those of one bucket, runs passes over them, and reports what they have come to. Prefix lengths,
step counts and schedules are arrays: growth changes a number, never a shape.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh

from jaxcram.cram import objective, optimizer, stages
from jaxcram.cram.parametrization import Direct, Parametrization, Params
from jaxcram.cram.settings import Objective, OptimizerSettings, StageSettings
from jaxcram.cram.stages import Progress, Stop
from jaxcram.devices.mesh import exchanges, places, replicate, spread
from jaxcram.devices.packed import Packed
from jaxcram.forward import predict
from jaxcram.models.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class PassSettings:
    """What the compiled pass depends on; hashable, a static argument.

    Attributes:
        objective, optimizer, stages: the three parts of the procedure.
        parametrization: from what is trained to the memory.
        chunk_passes: passes of one device loop, at most.
        remat: recompute layers in the backward pass.
    """

    objective: Objective = Objective()
    optimizer: OptimizerSettings = OptimizerSettings()
    stages: StageSettings = StageSettings()
    parametrization: Parametrization = Direct()
    chunk_passes: int = 16
    remat: bool = False


class Bucket(NamedTuple):
    """The padded shape of a pass on one device: target tokens and lanes."""

    tokens: int
    lanes: int


class State(NamedTuple):
    """What passes change in lanes; every leaf has a leading lane axis.

    Attributes:
        params: what is trained, fp32; in direct cramming the memory embeddings [N, K, D] themselves.
        opt: Optax state.
        progress: prefix, horizon, steps and stop reason, [N] each.
    """

    params: Params
    opt: optax.OptState
    progress: Progress


class Problem(NamedTuple):
    """What lanes are asked to do; every leaf has a leading lane axis.

    Attributes:
        tokens: target tokens, int32 [N, M], zero-padded.
        length: their number [N].
        peak_lr: peak of the learning rate schedule [N].
    """

    tokens: jax.Array
    length: jax.Array
    peak_lr: jax.Array


class Lanes(NamedTuple):
    """Lanes; every leaf has a leading lane axis (N in the pool, B in a pass).

    Attributes:
        problem: what they are asked to do.
        params, opt, progress: their `State`.
    """

    problem: Problem
    params: Params
    opt: optax.OptState
    progress: Progress

    @property
    def state(self) -> State:
        """What passes change."""
        return State(self.params, self.opt, self.progress)


class Record(NamedTuple):
    """What one pass measured, before its step; leading axes [B], after a chunk [B, P].

    Attributes:
        prefix: the target when the pass began.
        horizon: the longest completed stage after it.
        exact: the longest exact prefix measured.
        stage_steps, total_steps: steps spent before this pass.
        stop: a `Stop`, after it.
        correct: tokens of the prefix that were right under teacher forcing.
        loss: the objective per token [.., T].
        nll: -log p per token, nats [.., T].
        mem: the embedding that was measured [.., K, D].
    """

    prefix: jax.Array
    horizon: jax.Array
    exact: jax.Array
    stage_steps: jax.Array
    total_steps: jax.Array
    stop: jax.Array
    correct: jax.Array
    loss: jax.Array
    nll: jax.Array
    mem: jax.Array


class ChunkResult(NamedTuple):
    """What a chunk reports beside its lanes; S seats, device by device, on R devices.

    Attributes:
        passes: passes that each place of the mesh ran [R].
        lane_steps, useful_tokens: steps taken, and tokens of unfinished lanes' prefixes, by device [R].
        active: lanes that can go on after it, by device [R].
        state: of the seated lanes after the chunk, [S, ..].
        records: of every seat and pass, [S, P, ..]; those of a device are filled up to its number of passes.
    """

    passes: jax.Array
    lane_steps: jax.Array
    useful_tokens: jax.Array
    active: jax.Array
    state: State
    records: Record


def init_pool(problem: Problem, params: Params, settings: PassSettings) -> Lanes:
    """A pool of fresh lanes; see `Lanes` for the shapes."""
    full = settings.stages.mode == "full"
    length_N = problem.length
    first_N = length_N.copy() if full else jnp.minimum(settings.stages.min_tokens, length_N)
    # No array twice: their buffers are donated.
    progress = Progress(first_N, *(jnp.zeros_like(length_N) for _ in Progress._fields[1:]))
    return Lanes(problem, params, optimizer.init(params, settings.optimizer), progress)


def _select(take_B: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(take_B.reshape(take_B.shape + (1,) * (new.ndim - 1)), new, old)


def _all_finite(tree: Any) -> jax.Array:
    """Whether every number of each lane is finite [B]."""
    of_leaves = [jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, of_leaves)


def one_pass(model: Decoder, lanes: Lanes, length: int, settings: PassSettings) -> tuple[Lanes, Record]:
    """Measure, decide, and only then step: one forward and one backward pass over B lanes.

    Args:
        model: the frozen decoder.
        lanes: the lanes [B].
        length: tokens T of the pass; a lane whose prefix outgrows it waits for a longer bucket.
        settings: the procedure.

    Returns:
        The lanes after the pass and what it measured. A lane that has ended or outgrown T keeps its
        parameters and optimiser state to the bit.
    """
    length_B = lanes.problem.length
    tokens_BxT = lanes.problem.tokens[:, :length]
    before = lanes.progress

    def forward(params: Params) -> tuple[jax.Array, jax.Array]:
        mem_BxKxD = settings.parametrization.memory(params)
        return predict(model, mem_BxKxD, tokens_BxT, remat=settings.remat), mem_BxKxD

    hidden_BxTxD, pull_back, mem_BxKxD = jax.vjp(forward, lanes.params, has_aux=True)
    scores, grad_BxTxD = objective.score(model.head_VxD, hidden_BxTxD, tokens_BxT, settings.objective)

    with jax.named_scope("select"):
        exact_B = stages.longest_exact(scores.correct, length_B)
        progress = stages.spend(stages.grow(before, exact_B, length_B, settings.stages), settings.stages)
        position_T = jnp.arange(length)
        in_target_BxT = position_T < progress.prefix[:, None]
        weight_BxT = in_target_BxT / progress.prefix[:, None].astype(jnp.float32)
        loss_B = jnp.sum(jnp.where(in_target_BxT, scores.loss, 0.0), axis=1)

    (grad,) = pull_back((weight_BxT[..., None] * grad_BxTxD).astype(hidden_BxTxD.dtype))

    with jax.named_scope("optimiser"):
        finite_B = jnp.isfinite(loss_B) & _all_finite(grad)
        fits_B = (progress.stop == Stop.RUNNING) & (progress.prefix <= length)
        progress = progress._replace(stop=jnp.where(fits_B & ~finite_B, Stop.NOT_FINITE, progress.stop))
        step_B = fits_B & finite_B
        decay_steps = settings.stages.max_steps
        lr_B = optimizer.learning_rate(
            progress.total_steps, lanes.problem.peak_lr, decay_steps, settings.optimizer
        )
        params, opt = optimizer.update(grad, lanes.opt, lanes.params, lr_B, settings.optimizer)

    in_prefix_BxT = position_T < before.prefix[:, None]
    record = Record(
        prefix=before.prefix,
        horizon=progress.horizon,
        exact=exact_B,
        stage_steps=before.stage_steps,
        total_steps=before.total_steps,
        stop=progress.stop,
        correct=jnp.sum(scores.correct & in_prefix_BxT, axis=1),
        loss=scores.loss,
        nll=scores.nll,
        mem=mem_BxKxD,
    )
    taken_B = step_B.astype(progress.total_steps.dtype)
    after = lanes._replace(
        params=jax.tree.map(functools.partial(_select, step_B), params, lanes.params),
        opt=jax.tree.map(functools.partial(_select, step_B), opt, lanes.opt),
        progress=progress._replace(
            stage_steps=progress.stage_steps + taken_B, total_steps=progress.total_steps + taken_B
        ),
    )
    return after, record


def _active(progress: Progress, length: int) -> jax.Array:
    return (progress.stop == Stop.RUNNING) & (progress.prefix <= length)


class Limits(NamedTuple):
    """When a chunk ends; numbers, so that choosing them anew compiles nothing.

    Attributes:
        floor: a device stops as soon as fewer of its lanes than this can go on.
        quorum: with fewer lanes than this that can go on at its start, the chunk is empty.
        active: how many can, where seats on other meshes count too.
    """

    floor: jax.Array | int = 1
    quorum: jax.Array | int = 0
    active: jax.Array | np.int32 = np.int32(0)


ALL = Limits()  # every pass, as long as any lane can go on


@functools.partial(jax.jit, static_argnames=("bucket", "settings", "mesh"), donate_argnames="seats")
def run_chunk(
    model: Decoder,
    seats: Packed[Lanes],
    bucket: Bucket,
    settings: PassSettings,
    mesh: Mesh | AbstractMesh,
    limits: Limits = ALL,
) -> tuple[Packed[Lanes], Packed[ChunkResult]]:
    """Run passes over lanes, on every place of the mesh over its own share of them.

    Args:
        model: the frozen decoder.
        seats: the lanes, `bucket.lanes` for each place of the mesh in turn, whole on every device; donated,
            so the caller's arrays are gone.
        bucket: the padded shape; one trace each.
        settings: the procedure.
        mesh: that of the model; its devices do not matter.
        limits: when to stop early.

    Returns:
        The lanes after the chunk, and the chunk's result, both whole on every device.
    """
    lanes = replicate(seats.unpack(), mesh)  # or XLA would count over devices what each has
    active = jnp.maximum(jnp.sum(_active(lanes.progress, bucket.tokens)), limits.active)
    passes = jnp.where(active >= limits.quorum, settings.chunk_passes, 0)
    # Devices that share a model exchange something in every pass, so none of them may stop on its own.
    floor = 0 if exchanges(mesh) else limits.floor

    def share(model: Decoder, lanes: Lanes) -> ChunkResult:
        result = _passes(model, lanes, bucket.tokens, settings, passes, floor)
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
    passes: jax.Array,
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
        return (done < passes) & (jnp.sum(_active(lanes.progress, length)) >= floor)

    def step(carry: tuple) -> tuple:
        done, lane_steps, useful, lanes, records = carry
        active_B = _active(lanes.progress, length)
        after, record = one_pass(model, lanes, length, settings)
        records = jax.tree.map(lambda all_, one: all_.at[:, done].set(one), records, record)
        lane_steps += jnp.sum(after.progress.total_steps - lanes.progress.total_steps)
        useful += jnp.sum(jnp.where(active_B, lanes.progress.prefix, 0))
        return done + 1, lane_steps, useful, after, records

    done, lane_steps, useful, lanes, records = jax.lax.while_loop(
        go_on, step, (zero, zero, zero, lanes, records)
    )
    active = jnp.sum(_active(lanes.progress, length))
    return ChunkResult(done, lane_steps[None], useful[None], active[None], lanes.state, records)
