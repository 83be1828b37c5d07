"""The Llama family: RMSNorm, SwiGLU, grouped queries, rotary positions (Llama 1 to 3.2, SmolLM2).

Touvron et al. 2023, "LLaMA"; Grattafiori et al. 2024, "The Llama 3 herd of models".
"""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from jaxcram.models import rope
from jaxcram.models.config import Cut, DecoderConfig
from jaxcram.models.fields import Fields
from jaxcram.models.layers import Linear, RMSNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """Settings of a Llama; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "llama"
    architecture: ClassVar[str] = "LlamaForCausalLM"
    norms_queries: ClassVar[bool] = False  # and keys, each head by itself
    checkpoint_names: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "embedding_VxD": "model.embed_tokens.weight",
        "layers.attention_norm.weight": "model.layers.{}.input_layernorm.weight",
        "layers.query.weight": "model.layers.{}.self_attn.q_proj.weight",
        "layers.query.bias": "model.layers.{}.self_attn.q_proj.bias",
        "layers.key.weight": "model.layers.{}.self_attn.k_proj.weight",
        "layers.key.bias": "model.layers.{}.self_attn.k_proj.bias",
        "layers.value.weight": "model.layers.{}.self_attn.v_proj.weight",
        "layers.value.bias": "model.layers.{}.self_attn.v_proj.bias",
        "layers.out.weight": "model.layers.{}.self_attn.o_proj.weight",
        "layers.out.bias": "model.layers.{}.self_attn.o_proj.bias",
        "layers.mlp_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
        "layers.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
        "layers.gate.bias": "model.layers.{}.mlp.gate_proj.bias",
        "layers.up.weight": "model.layers.{}.mlp.up_proj.weight",
        "layers.up.bias": "model.layers.{}.mlp.up_proj.bias",
        "layers.down.weight": "model.layers.{}.mlp.down_proj.weight",
        "layers.down.bias": "model.layers.{}.mlp.down_proj.bias",
        "final_norm.weight": "model.norm.weight",
        "untied_head_VxD": "lm_head.weight",
    }
    cuts: ClassVar[dict[str, Cut | None]] = {
        "embedding_VxD": Cut(0, "vocab_size"),
        "layers.attention_norm.weight": None,
        "layers.query.weight": Cut(0, "num_heads"),
        "layers.query.bias": Cut(0, "num_heads"),
        "layers.key.weight": Cut(0, "num_kv_heads"),
        "layers.key.bias": Cut(0, "num_kv_heads"),
        "layers.value.weight": Cut(0, "num_kv_heads"),
        "layers.value.bias": Cut(0, "num_kv_heads"),
        "layers.out.weight": Cut(1, "num_heads"),
        "layers.out.bias": None,
        "layers.mlp_norm.weight": None,
        "layers.gate.weight": Cut(0, "mlp_width"),
        "layers.gate.bias": Cut(0, "mlp_width"),
        "layers.up.weight": Cut(0, "mlp_width"),
        "layers.up.bias": Cut(0, "mlp_width"),
        "layers.down.weight": Cut(1, "mlp_width"),
        "layers.down.bias": None,
        "final_norm.weight": None,
        "untied_head_VxD": Cut(0, "vocab_size"),
    }
    ignored_names: ClassVar[str] = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"

    tied_head: bool = False
    norm_eps: float = 1e-6
    rope_scaling: rope.Scaling | None = None
    attention_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def from_fields(cls, fields: Fields) -> "LlamaConfig":
        """Reads config.json; raises UserError for a field or a value that is not supported."""
        fields.only("pretraining_tp", 1)
        return cls(
            **read_numbers(fields),
            attention_bias=fields.take("attention_bias", bool, False),
            mlp_bias=fields.take("mlp_bias", bool, False),
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        return super().to_fields() | {
            "architectures": [self.architecture],
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_size,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": rope.written(self.rope_scaling),
            "hidden_act": "silu",
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
        }

    def rotary_frequencies(self) -> np.ndarray:
        """Radians per position [C / 2]; [L, C / 2] if layers differ."""
        return rope.frequencies(self.rope_theta, self.head_size, self.rope_scaling)

    def block(self, *, dtype: Any, rngs: nnx.Rngs) -> "LlamaBlock":
        """One layer with random weights."""
        return LlamaBlock(self, dtype=dtype, rngs=rngs)

    @property
    def out_bias(self) -> bool:
        """Whether the projection after attention has a bias too, where the others have."""
        return self.attention_bias

    def norm(self, size: int, *, dtype: Any) -> RMSNorm:
        """A norm of the family, over `size` entries."""
        return RMSNorm(size, self.norm_eps, dtype=dtype)

    def final_norm(self, *, dtype: Any) -> RMSNorm:
        """The norm after the last layer."""
        return self.norm(self.width, dtype=dtype)


# Tables for families that are a Llama but for a few tensors: path -> name in the checkpoint.
WITHOUT_MLP_BIASES = {
    path: name
    for path, name in LlamaConfig.checkpoint_names.items()
    if isinstance(name, str) and path not in ("layers.gate.bias", "layers.up.bias", "layers.down.bias")
}
HEAD_NORMS = {
    "layers.query_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
    "layers.key_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
}


def read_numbers(
    fields: Fields, *, head_size: int | None = None, rope_theta: float = 10_000.0
) -> dict[str, Any]:
    """What Llama and its relatives spell alike, as keyword arguments of a config.

    Args:
        fields: of config.json.
        head_size: that of an absent `head_dim`; None divides the width among the heads.
        rope_theta: the base of the frequencies if the file gives none.
    """
    fields.only("hidden_act", "silu", "swish")  # two names of one function
    theta, scaling = rope.read(fields.rope(), rope_theta)
    return fields.grouped(head_size) | {"rope_theta": theta, "rope_scaling": scaling}


class LlamaBlock(nnx.Module):
    """x + attention(norm(x)), then h + mlp(norm(h)), with mlp(y) = down(silu(gate(y)) * up(y))."""

    def __init__(self, config: LlamaConfig, *, dtype: Any, rngs: nnx.Rngs):
        D, C, F = config.width, config.head_size, config.mlp_width
        H, G = config.num_heads, config.num_kv_heads
        self.head_size = C
        bias = config.attention_bias
        self.attention_norm = config.norm(D, dtype=dtype)
        self.query = Linear(D, H * C, bias=bias, dtype=dtype, rngs=rngs)
        self.key = Linear(D, G * C, bias=bias, dtype=dtype, rngs=rngs)
        self.value = Linear(D, G * C, bias=bias, dtype=dtype, rngs=rngs)
        self.out = Linear(H * C, D, bias=config.out_bias, dtype=dtype, rngs=rngs)
        self.query_norm = config.norm(C, dtype=dtype) if config.norms_queries else None
        self.key_norm = config.norm(C, dtype=dtype) if config.norms_queries else None
        bias = config.mlp_bias
        self.mlp_norm = config.norm(D, dtype=dtype)
        self.gate = Linear(D, F, bias=bias, dtype=dtype, rngs=rngs)
        self.up = Linear(D, F, bias=bias, dtype=dtype, rngs=rngs)
        self.down = Linear(F, D, bias=bias, dtype=dtype, rngs=rngs)

    def qkv(self, x_BxTxD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries [B, T, H, C], keys and values [B, T, G, C], before rotation."""
        normed = self.attention_norm(x_BxTxD)
        query, key, value = (
            projection(normed).reshape(*x_BxTxD.shape[:2], -1, self.head_size)
            for projection in (self.query, self.key, self.value)
        )
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key, value

    def finish(self, x_BxTxD: jax.Array, attended_BxTxHxC: jax.Array) -> jax.Array:
        """The layer's output [B, T, D]."""
        with jax.named_scope("attention"):
            x_BxTxD = x_BxTxD + self.out(attended_BxTxHxC.reshape(*x_BxTxD.shape[:2], -1))
        with jax.named_scope("mlp"):
            return x_BxTxD + self.mlp(self.mlp_norm(x_BxTxD))

    def mlp(self, y_BxTxD: jax.Array) -> jax.Array:
        """SwiGLU (Shazeer 2020, eq. 6)."""
        return self.down(jax.nn.silu(self.gate(y_BxTxD)) * self.up(y_BxTxD))
