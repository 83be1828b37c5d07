"""Random models whose words depend on what they read."""

import jax.numpy as jnp
from flax import nnx

from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig

# The numbers of a random two-layer model: quick to compile, and good for a handful of tokens.
TINY = {
    "vocab_size": 48,
    "width": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_size": 8,
    "mlp_width": 64,
    "max_positions": 64,
    "tied_head": True,
    "norm_eps": 1e-5,
}


def lively(config: LlamaConfig) -> Decoder:
    """A random fp32 decoder. Weights say the same on any input; these are eight times larger."""
    graph, state = nnx.split(Decoder(config, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    return nnx.merge(graph, nnx.map_state(lambda _, x: x.replace(x[...] * 8) if x.ndim > 2 else x, state))
