"""Progressive cramming written down as plainly as it can be: one sample, one token at a time, no lanes.

It measures every stage with a pass of its own, where the engine measures all of them in one; so it needs more
passes, and must take the very same steps. What a step is, `measure_and_step` writes down. Another program
rounds otherwise, though, and long optimisations amplify the last bit: so every step is held against the
engine's program, and the loop goes on from that one's bits. The order of things - what is measured when, who
steps, who waits, when a stage ends - is its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.cram import chunk, lanes, objective, optimizer
from jaxcram.devices import mesh
from jaxcram.devices.packed import Packed
from jaxcram.forward import predict


@functools.partial(jax.jit, static_argnames="settings")
def measure_and_step(model, mem_1xKxD, opt, tokens_1xT, n, total, peak, settings):
    """Scores of all tokens, and embedding and optimiser state after a step on the first n tokens."""
    hidden, pull_back = jax.vjp(lambda mem: predict(model, mem, tokens_1xT), mem_1xKxD)
    scores, grad = objective.score(model.head, hidden, tokens_1xT, settings.objective)
    weight_1xT = (jnp.arange(tokens_1xT.shape[1]) < n)[None] / n.astype(jnp.float32)
    (grad_mem,) = pull_back((weight_1xT[..., None] * grad).astype(hidden.dtype))
    lr_1 = optimizer.learning_rate(total[None], peak[None], settings.stages.max_steps, settings.optimizer)
    mem, opt = optimizer.update(grad_mem, opt, mem_1xKxD, lr_1, settings.optimizer)
    return scores, mem, opt


def engines_step(model, mem_1xKxD, opt, tokens_1xT, n, total, peak, settings):
    """Embedding and optimiser state after a step on the first n tokens, by the program of the engine.

    Its lane has these n tokens alone and steps left for one, so that a chunk is one step or, if they are
    exact, none.
    """
    problem = lanes.Problem(tokens_1xT, np.array([n], np.int32), np.array([peak], np.float32))
    pool = lanes.init_pool(jax.tree.map(jnp.asarray, problem), mem_1xKxD, settings)
    stage_steps = jnp.array([settings.stages.max_steps_per_stage - 1], jnp.int32)
    counts = {"stage_steps": stage_steps, "total_steps": jnp.array([total], jnp.int32)}
    progress = pool.progress._replace(prefix=problem.length, horizon=problem.length - 1, **counts)
    seats = Packed.of(pool._replace(opt=opt, progress=progress))
    devices = mesh.of(model)
    bucket = lanes.Bucket(tokens_1xT.shape[1], 1)
    after, _ = chunk.run_chunk(
        model, mesh.replicated(seats, devices), bucket, settings, devices.abstract_mesh
    )
    after = after.unpack()
    return after.params, after.opt, int(after.progress.total_steps[0]) - total


def cram(model, tokens, start_KxD, peak, settings, plan, measured=None):
    """Stages [(prefix length, steps)] of one sample, its horizon, and the embedding measured there.

    Every measurement is added to the list `measured`: (n, steps so far, tokens right from the front, scores,
    embedding).
    """
    measured = [] if measured is None else measured
    (model, *_) = mesh.apart(model)
    mem = jnp.asarray(start_KxD)[None]
    opt = optimizer.init(mem, settings.optimizer)
    stages, best, total = [], None, 0
    for n in range(1, len(tokens) + 1):
        length = plan.bucket(n).tokens
        padded = np.zeros((1, length), np.int32)
        padded[0, : min(length, len(tokens))] = tokens[:length]
        for steps in range(settings.stages.max_steps_per_token + 1):
            arguments = (np.int32(n), np.int32(total), np.float32(peak))
            scores, own_mem, _ = measure_and_step(model, mem, opt, padded, *arguments, settings)
            right = min(int(np.cumprod(scores.correct[0]).sum()), len(tokens))
            measured.append((n, total, right, scores, mem[0]))
            if right >= n:
                break
            if steps == settings.stages.max_steps_per_token or total == settings.stages.max_steps:
                return stages, n - 1, best
            mem, opt, taken = engines_step(model, mem, opt, padded, n, total, peak, settings)
            assert taken == 1
            np.testing.assert_allclose(mem, own_mem, rtol=1e-4, atol=1e-6)
            total += 1
        stages.append((n, steps))
        best = np.asarray(mem[0])
    return stages, len(tokens), best


def cram_full(model, tokens, start_KxD, peak, settings, plan):
    """Full cramming of one sample: (steps, which tokens are right, embedding) where it ends.

    It ends at the first measurement with a share of right tokens of `full_threshold` or more, or at the cap.
    """
    (model, *_) = mesh.apart(model)
    mem = jnp.asarray(start_KxD)[None]
    opt = optimizer.init(mem, settings.optimizer)
    n = len(tokens)
    padded = np.zeros((1, plan.bucket(n).tokens), np.int32)
    padded[0, :n] = tokens
    for total in range(settings.stages.max_steps + 1):
        arguments = (np.int32(n), np.int32(total), np.float32(peak))
        scores, own_mem, _ = measure_and_step(model, mem, opt, padded, *arguments, settings)
        right = np.asarray(scores.correct[0, :n])
        if right.sum() / n >= settings.stages.full_threshold or total == settings.stages.max_steps:
            return total, right, np.asarray(mem[0])
        mem, opt, taken = engines_step(model, mem, opt, padded, n, total, peak, settings)
        assert taken == 1
        np.testing.assert_allclose(mem, own_mem, rtol=1e-4, atol=1e-6)
