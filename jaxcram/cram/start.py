"""What the lanes of a run start from: their jobs, initial embeddings, and the texts under the model alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcram.cram import objective
from jaxcram.cram.settings import CramSettings, Objective
from jaxcram.devices import configuration, mesh
from jaxcram.forward import predict_alone
from jaxcram.models.decoder import Decoder
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample, pad_tokens


def jobs_of(samples: list[Sample], settings: CramSettings) -> list[Job]:
    """Every lane of a run, sample by sample."""
    rates, seeds = settings.learning_rates, settings.seeds
    return [Job(sample.sample_id, rate, seed) for sample in samples for seed in seeds for rate in rates]


def initial_embeddings(model: Decoder, jobs: Sequence[Job], settings: CramSettings) -> np.ndarray:
    """The starts [N, K, D] of lanes, fp32; they depend on sample and seed, not on the learning rate.

    Uniform in [0, 0.02) ([P]), or normal with the standard deviation of the token embeddings ([K]).
    """
    shape = (settings.num_memory, model.config.width)
    keys = [jax.random.fold_in(configuration.key(job.seed), job.sample_id) for job in jobs]
    if settings.init == "uniform":
        starts = [jax.random.uniform(key, shape, jnp.float32, 0.0, 0.02) for key in keys]
    else:
        std = jnp.std(model.embed(jnp.arange(model.config.vocab_size)[None]).astype(jnp.float32))
        starts = [std * jax.random.normal(key, shape, jnp.float32) for key in keys]
    return np.stack([np.asarray(start_KxD) for start_KxD in starts])


@functools.partial(jax.jit, static_argnames="devices")
def _alone_nll(model: Decoder, tokens_SxT: jax.Array, devices: Mesh) -> jax.Array:
    def share(model: Decoder, tokens_BxT: jax.Array) -> jax.Array:
        hidden = predict_alone(model, tokens_BxT)
        scores, _ = objective.score(model.head_VxD, hidden, tokens_BxT[:, 1:], Objective())
        return jnp.pad(scores.nll, ((0, 0), (1, 0)))

    return mesh.spread(share, devices)(model, tokens_SxT).unpack()


def alone_nll(model: Decoder, targets: dict[int, np.ndarray], length: int) -> dict[int, np.ndarray]:
    """-log p in nats of every token of every target [n] under the frozen model alone, by sample id.

    Token 0, which nothing predicts, has 0. `length` tokens are computed of each, and one text at a time on
    every device: so the rounding does not depend on what else fits into memory.
    """
    result, waiting = {}, list(targets.items())
    devices = mesh.of(model)
    seats = mesh.places(devices)
    for start in range(0, len(waiting), seats):
        batch = waiting[start : start + seats]
        tokens_SxT = pad_tokens([tokens for _, tokens in batch], seats, length)
        nll_SxT = np.asarray(_alone_nll(model, tokens_SxT, devices))
        for nll, (sample_id, tokens) in zip(nll_SxT, batch, strict=False):
            result[sample_id] = nll[: len(tokens)]
    return result
