"""Progressive cramming written down as plainly as it can be: one sample, one token at a time, no lanes.

It measures every stage with a pass of its own, where the engine measures all of them in one; so it needs more
passes, and must take the very same steps. Long optimisations amplify the last bit, so it is given the same
padded shapes and the same arithmetic for loss and optimiser (which other tests hold against Optax); the
order of things - what is measured when, who steps, who waits, when a stage ends - is its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.cram import objective, optimizer
from jaxcram.forward import predict


@functools.partial(jax.jit, static_argnames="settings")
def measure_and_step(model, mem_1xKxD, opt, tokens_1xT, n, total, peak, settings):
    """Scores of all tokens, and embedding and optimiser state after a step on the first n tokens."""
    hidden, pull_back = jax.vjp(lambda mem: predict(model, mem, tokens_1xT), mem_1xKxD)
    scores, grad = objective.score(model.head_VxD, hidden, tokens_1xT, settings.objective)
    weight_1xT = (jnp.arange(tokens_1xT.shape[1]) < n)[None] / n.astype(jnp.float32)
    (grad_mem,) = pull_back((weight_1xT[..., None] * grad).astype(hidden.dtype))
    lr_1 = optimizer.learning_rate(total[None], peak[None], settings.stages.max_steps, settings.optimizer)
    mem, opt = optimizer.update(grad_mem, opt, mem_1xKxD, lr_1, settings.optimizer)
    return scores, mem, opt


def cram(model, tokens, start_KxD, peak, settings, padded_length, measured=None):
    """Stages [(prefix length, steps)] of one sample, its horizon, and the embedding measured there.

    Every measurement is added to the list `measured`: (n, steps so far, tokens right from the front, scores,
    embedding).
    """
    measured = [] if measured is None else measured
    mem = jnp.asarray(start_KxD)[None]
    opt = optimizer.init(mem, settings.optimizer)
    stages, best, total = [], None, 0
    for n in range(1, len(tokens) + 1):
        length = padded_length(n)
        padded = np.zeros((1, length), np.int32)
        padded[0, : min(length, len(tokens))] = tokens[:length]
        for steps in range(settings.stages.max_steps_per_token + 1):
            arguments = (np.int32(n), np.int32(total), np.float32(peak))
            scores, next_mem, next_opt = measure_and_step(model, mem, opt, padded, *arguments, settings)
            right = min(int(np.cumprod(scores.correct[0]).sum()), len(tokens))
            measured.append((n, total, right, scores, mem[0]))
            if right >= n:
                break
            if steps == settings.stages.max_steps_per_token or total == settings.stages.max_steps:
                return stages, n - 1, best
            mem, opt, total = next_mem, next_opt, total + 1
        stages.append((n, steps))
        best = np.asarray(mem[0])
    return stages, len(tokens), best
