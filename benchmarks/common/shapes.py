"""Shapes of published models, as in their config.json, and decoders of random weights in these shapes."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcram.errors import UserError
from jaxcram.models.config import DecoderConfig
from jaxcram.models.decoder import Decoder
from jaxcram.models.registry import read_config


def _llama(width: int, layers: int, heads: tuple[int, int], mlp: int, vocab: int, **more: Any) -> dict:
    """A Llama, or of a related family: `model_type` among `more`."""
    return {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        **more,
    }


def _neox(width: int, layers: int, heads: int, mlp: int, vocab: int) -> dict:
    return {
        "model_type": "gpt_neox",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "rotary_pct": 0.25,
        "rotary_emb_base": 10_000,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    }


_ROPE_8B = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": _llama(576, 30, (9, 3), 1536, 49152, tie_word_embeddings=True, rope_theta=100_000.0),
    "smollm2-1.7b": _llama(2048, 24, (32, 32), 8192, 49152, tie_word_embeddings=True, rope_theta=130_000.0),
    "pythia-1.4b": _neox(2048, 24, 16, 8192, 50304),
    "llama3.1-8b": _llama(
        *(4096, 32, (32, 8), 14336, 128256),
        rope_theta=500_000.0,
        rope_scaling=_ROPE_8B,
        max_position_embeddings=131_072,
    ),
    "gemma3-4b": {
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "intermediate_size": 10240,
            "vocab_size": 262_208,
            "max_position_embeddings": 131_072,
            "sliding_window": 1024,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    },
    "qwen3-8b": _llama(
        *(4096, 36, (32, 8), 12288, 151936),
        model_type="qwen3",
        head_dim=128,
        rope_theta=1_000_000.0,
        max_position_embeddings=40_960,
    ),
    "smollm3-3b": _llama(
        *(2048, 36, (16, 4), 11008, 128256),
        model_type="smollm3",
        tie_word_embeddings=True,
        rope_theta=5_000_000.0,
        max_position_embeddings=65_536,
    ),
    "tiny-llama": _llama(64, 2, (4, 2), 96, 128),
    "tiny-neox": _neox(64, 2, 4, 96, 128),
}


def config(shape: str) -> DecoderConfig:
    """The decoder's config of one of `SHAPES`."""
    if shape not in SHAPES:
        raise UserError(f"shape {shape!r} is unknown; choose one of {', '.join(SHAPES)}")
    return read_config(SHAPES[shape], shape)


def abstract(shape: str, dtype: Any) -> Decoder:
    """A decoder without weights, its leaves `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(lambda: Decoder(config(shape), dtype=dtype, rngs=nnx.Rngs(0)))


def random_decoder(shape: str, dtype: Any) -> Decoder:
    """A decoder of random weights, made on the device leaf by leaf: no fp32 copy, no host memory.

    Matrices are normal with the inverse square root of their input width (embeddings: 0.02), norms one,
    biases zero.
    """
    leaves, structure = jax.tree.flatten_with_path(abstract(shape, dtype))
    named = [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
    return jax.tree.unflatten(structure, [_leaf(name, leaf.shape, leaf.dtype) for name, leaf in named])


def _leaf(name: str, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    if "norm" in name and "bias" not in name:
        return jnp.ones(shape, dtype)
    if "bias" in name:
        return jnp.zeros(shape, dtype)
    if len(shape) == 2:  # an embedding
        return _normal(_key(name), (1, *shape), dtype, 0.02)[0]
    return _normal(_key(name), shape, dtype, shape[-1] ** -0.5)


def _key(name: str) -> jax.Array:
    return jax.random.key(zlib.crc32(name.encode()))


def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any, scale: float) -> jax.Array:
    def draw(keys: jax.Array) -> jax.Array:
        # Layer by layer, because the random bits take more memory than the weights.
        return jax.lax.map(lambda key: jax.random.normal(key, shape[1:], dtype) * scale, keys)

    return jax.jit(draw)(jax.random.split(key, shape[0]))
