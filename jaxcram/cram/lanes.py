"""Lanes on the device, and one pass over them.

A lane is one problem: a text, a learning rate, a seed. Prefix lengths, step counts and positions in the
schedule are arrays: growth changes a number, never a shape.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from jaxcram.cram import objective, optimizer, stages
from jaxcram.cram.parametrization import Direct, Parametrization, Params
from jaxcram.cram.settings import CramSettings, Objective, OptimizerSettings, StageSettings
from jaxcram.cram.stages import Progress, Stop
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

    @classmethod
    def of(cls, settings: CramSettings, remat: bool) -> Self:
        """The settings of a run's passes."""
        return cls(
            settings.objective,
            settings.optimizer,
            settings.stages,
            chunk_passes=settings.chunk_passes,
            remat=remat,
        )


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
    scores, grad_BxTxD = objective.score(model.head, hidden_BxTxD, tokens_BxT, settings.objective)

    with jax.named_scope("select"):
        exact_B = stages.longest_exact(scores.correct, length_B)
        progress = stages.grow(before, exact_B, length_B, settings.stages)
        progress = stages.converge(progress, scores.correct, length_B, settings.stages)
        progress = stages.spend(progress, settings.stages)
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


def can_go_on(progress: Progress, length: int) -> jax.Array:
    """Which lanes are running and fit into passes of `length` tokens [B]."""
    return (progress.stop == Stop.RUNNING) & (progress.prefix <= length)
