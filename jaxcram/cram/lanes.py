"""Lanes on the device: the pool, one pass, and a chunk of passes in one device loop.

A lane is one problem: a text, a learning rate, a seed. The pool holds the state of all lanes of a run;
a chunk gathers the lanes of one bucket from it, runs passes over them, and scatters them back. Prefix
lengths, step counts and schedules are arrays: growth changes a number, never a shape.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcram import framing
from jaxcram.cram import objective, optimizer, stages
from jaxcram.cram.settings import Objective, OptimizerSettings, StageSettings
from jaxcram.cram.stages import Progress, Stop
from jaxcram.models.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class PassSettings:
    """What the compiled pass depends on; hashable, a static argument.

    Attributes:
        objective, optimizer, stages: the three parts of the procedure.
        chunk_passes: passes of one device loop, at most.
        remat: recompute layers in the backward pass.
    """

    objective: Objective = Objective()
    optimizer: OptimizerSettings = OptimizerSettings()
    stages: StageSettings = StageSettings()
    chunk_passes: int = 32
    remat: bool = False


class Bucket(NamedTuple):
    """The padded shape of a pass: target tokens and lanes."""

    tokens: int
    lanes: int


class Lanes(NamedTuple):
    """State of lanes; every leaf has a leading lane axis (N in the pool, B in a pass).

    Attributes:
        tokens: target tokens, int32 [N, M], zero-padded.
        length: their number [N].
        peak_lr: peak of the learning rate schedule [N].
        mem: memory embeddings, fp32 [N, K, D].
        opt: Optax state.
        progress: prefix, horizon, steps and stop reason, [N] each.
    """

    tokens: jax.Array
    length: jax.Array
    peak_lr: jax.Array
    mem: jax.Array
    opt: optax.OptState
    progress: Progress


class Record(NamedTuple):
    """What one pass measured, before its step; leading axes [P, B] after a chunk.

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
    """What a chunk reports beside the pool: counts over its passes, and the records of the first `passes`."""

    passes: jax.Array
    lane_steps: jax.Array
    useful_tokens: jax.Array
    progress: Progress
    records: Record


def init_pool(
    tokens_NxM: jax.Array,
    length_N: jax.Array,
    peak_lr_N: jax.Array,
    mem_NxKxD: jax.Array,
    settings: PassSettings,
) -> Lanes:
    """A pool of fresh lanes; see `Lanes` for the shapes."""
    full = settings.stages.mode == "full"
    zero_N = jnp.zeros_like(length_N)
    first_N = length_N if full else jnp.minimum(settings.stages.min_tokens, length_N)
    progress = Progress(prefix=first_N, horizon=zero_N, stage_steps=zero_N, total_steps=zero_N, stop=zero_N)
    opt = optimizer.init(mem_NxKxD, settings.optimizer)
    return Lanes(tokens_NxM, length_N, peak_lr_N, mem_NxKxD, opt, progress)


def _select(take_B: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(take_B.reshape(take_B.shape + (1,) * (new.ndim - 1)), new, old)


def one_pass(model: Decoder, lanes: Lanes, length: int, settings: PassSettings) -> tuple[Lanes, Record]:
    """Measure, decide, and only then step: one forward and one backward pass over B lanes.

    Args:
        model: the frozen decoder.
        lanes: the lanes [B].
        length: tokens T of the pass; a lane whose prefix outgrows it waits for a longer bucket.
        settings: the procedure.

    Returns:
        The lanes after the pass and what it measured. A lane that has ended or outgrown T keeps its
        embedding and optimiser state to the bit.
    """
    tokens_BxT = lanes.tokens[:, :length]
    before = lanes.progress
    hidden_BxTxD, pull_back = jax.vjp(
        lambda mem: framing.predict(model, mem, tokens_BxT, remat=settings.remat), lanes.mem
    )
    scores, grad_BxTxD = objective.score(model.head_VxD, hidden_BxTxD, tokens_BxT, settings.objective)

    with jax.named_scope("select"):
        exact_B = stages.longest_exact(scores.correct, lanes.length)
        progress = stages.spend(stages.grow(before, exact_B, lanes.length, settings.stages), settings.stages)
        position_T = jnp.arange(length)
        in_target_BxT = position_T < progress.prefix[:, None]
        weight_BxT = in_target_BxT / progress.prefix[:, None].astype(jnp.float32)
        loss_B = jnp.sum(jnp.where(in_target_BxT, scores.loss, 0.0), axis=1)

    (grad_BxKxD,) = pull_back((weight_BxT[..., None] * grad_BxTxD).astype(hidden_BxTxD.dtype))

    with jax.named_scope("optimiser"):
        finite_B = jnp.isfinite(loss_B) & jnp.all(jnp.isfinite(grad_BxKxD), axis=(1, 2))
        fits_B = (progress.stop == Stop.RUNNING) & (progress.prefix <= length)
        progress = progress._replace(stop=jnp.where(fits_B & ~finite_B, Stop.NOT_FINITE, progress.stop))
        step_B = fits_B & finite_B
        decay_steps = settings.stages.max_steps
        lr_B = optimizer.learning_rate(progress.total_steps, lanes.peak_lr, decay_steps, settings.optimizer)
        mem, opt = optimizer.update(grad_BxKxD, lanes.opt, lanes.mem, lr_B, settings.optimizer)

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
        mem=lanes.mem,
    )
    taken_B = step_B.astype(progress.total_steps.dtype)
    after = lanes._replace(
        mem=_select(step_B, mem, lanes.mem),
        opt=jax.tree.map(functools.partial(_select, step_B), opt, lanes.opt),
        progress=progress._replace(
            stage_steps=progress.stage_steps + taken_B, total_steps=progress.total_steps + taken_B
        ),
    )
    return after, record


def _active(progress: Progress, length: int) -> jax.Array:
    return (progress.stop == Stop.RUNNING) & (progress.prefix <= length)


@functools.partial(jax.jit, static_argnames=("bucket", "settings"))
def run_chunk(
    model: Decoder, pool: Lanes, slots_B: jax.Array, bucket: Bucket, settings: PassSettings
) -> tuple[Lanes, ChunkResult]:
    """Run passes over the lanes at `slots_B` until `chunk_passes` are done or a quarter of them cannot go on.

    Args:
        model: the frozen decoder.
        pool: the state of all N lanes.
        slots_B: places in the pool, int32; N or more marks a dummy that fills the bucket.
        bucket: the padded shape; one trace each.
        settings: the procedure.

    Returns:
        The pool after the chunk, and the chunk's result; of the records only the first `passes` are filled.
    """
    size = pool.length.shape[0]
    lanes = jax.tree.map(lambda x: jnp.take(x, slots_B, axis=0, mode="clip"), pool)
    stop_B = jnp.where(slots_B < size, lanes.progress.stop, Stop.COMPLETE)
    lanes = lanes._replace(progress=lanes.progress._replace(stop=stop_B))

    blank = jax.eval_shape(lambda x: one_pass(model, x, bucket.tokens, settings)[1], lanes)
    records = jax.tree.map(lambda x: jnp.zeros((settings.chunk_passes, *x.shape), x.dtype), blank)
    zero = jnp.zeros((), jnp.int32)
    # A lane that has ended or outgrown the bucket still costs its seat: better a new chunk with others in it.
    enough = jnp.maximum(1, (3 * jnp.sum(_active(lanes.progress, bucket.tokens)) + 3) // 4)

    def go_on(carry: tuple) -> jax.Array:
        done, _, _, lanes, _ = carry
        return (done < settings.chunk_passes) & (jnp.sum(_active(lanes.progress, bucket.tokens)) >= enough)

    def step(carry: tuple) -> tuple:
        done, lane_steps, useful, lanes, records = carry
        active_B = _active(lanes.progress, bucket.tokens)
        after, record = one_pass(model, lanes, bucket.tokens, settings)
        records = jax.tree.map(lambda all_, one: all_.at[done].set(one), records, record)
        lane_steps += jnp.sum(after.progress.total_steps - lanes.progress.total_steps)
        useful += jnp.sum(jnp.where(active_B, lanes.progress.prefix, 0))
        return done + 1, lane_steps, useful, after, records

    done, lane_steps, useful, lanes, records = jax.lax.while_loop(
        go_on, step, (zero, zero, zero, lanes, records)
    )
    pool = jax.tree.map(lambda x, y: x.at[slots_B].set(y, mode="drop"), pool, lanes)
    return pool, ChunkResult(done, lane_steps, useful, lanes.progress, records)
