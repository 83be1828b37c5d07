"""What the lanes of a run start from: their jobs, initial embeddings, and the texts under the model alone."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcram.cram.settings import CramSettings
from jaxcram.devices import configuration, mesh
from jaxcram.forward import token_nll
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


def alone_nll(model: Decoder, targets: dict[int, np.ndarray], length: int) -> dict[int, np.ndarray]:
    """-log p in nats of every token of every target [n] under the frozen model alone, by sample id.

    Token 0, which nothing predicts, has 0. `length` tokens are computed of each, and one text at a time on
    every device: so the rounding does not depend on what else fits into memory.
    """
    result, waiting = {}, list(targets.items())
    seats = mesh.places(mesh.of(model))
    for start in range(0, len(waiting), seats):
        batch = waiting[start : start + seats]
        tokens_SxT = pad_tokens([tokens for _, tokens in batch], seats, length)
        nll_SxT = np.asarray(token_nll(model, None, tokens_SxT))
        for nll, (sample_id, tokens) in zip(nll_SxT, batch, strict=False):
            result[sample_id] = nll[: len(tokens)]
    return result


def mean_token_norm(model: Decoder, at_once: int = 2**24) -> float:
    """The mean Euclidean norm of the model's token embeddings, as `embed` gives them to the decoder.

    Args:
        model: the frozen decoder; unused tokens of its vocabulary count too.
        at_once: numbers of the embeddings that exist in fp32 at one time.
    """
    tokens = np.arange(model.config.vocab_size, dtype=np.int32)
    chunk = max(1, min(len(tokens), at_once // model.config.width))
    padded_CxT = np.pad(tokens, (0, -len(tokens) % chunk)).reshape(-1, chunk)
    norms = [np.asarray(_norms(model, chunk_T, mesh.of(model))) for chunk_T in padded_CxT]
    return float(np.mean(np.concatenate(norms)[: len(tokens)], dtype=np.float64))


@jax.jit(static_argnames="devices")
def _norms(model: Decoder, tokens_T: jax.Array, devices: Mesh) -> jax.Array:
    embedded_1xTxD = model.embed(tokens_T[None]).astype(jnp.float32)
    return mesh.replicate(jnp.linalg.norm(embedded_1xTxD[0], axis=1), devices)
