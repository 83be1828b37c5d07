"""The GPT-NeoX family: LayerNorm with bias, partial rotary positions, GELU MLP (GPT-NeoX-20B, Pythia).

Black et al. 2022, "GPT-NeoX-20B"; Biderman et al. 2023, "Pythia".
"""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from jaxcram.models import rope
from jaxcram.models.config import Cut, DecoderConfig
from jaxcram.models.fields import Fields
from jaxcram.models.layers import LayerNorm, Linear

# Hugging Face's name -> whether GELU (Hendrycks & Gimpel 2016) is approximated by tanh.
_TANH_GELU = {
    "gelu": False,
    "gelu_python": False,
    "gelu_new": True,
    "gelu_fast": True,
    "gelu_pytorch_tanh": True,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeoXConfig(DecoderConfig):
    """Settings of a GPT-NeoX; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "gpt_neox"
    checkpoint_names: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "embedding_VxD": "gpt_neox.embed_in.weight",
        "layers.attention_norm.weight": "gpt_neox.layers.{}.input_layernorm.weight",
        "layers.attention_norm.bias": "gpt_neox.layers.{}.input_layernorm.bias",
        "layers.query_key_value.weight": "gpt_neox.layers.{}.attention.query_key_value.weight",
        "layers.query_key_value.bias": "gpt_neox.layers.{}.attention.query_key_value.bias",
        "layers.out.weight": "gpt_neox.layers.{}.attention.dense.weight",
        "layers.out.bias": "gpt_neox.layers.{}.attention.dense.bias",
        "layers.mlp_norm.weight": "gpt_neox.layers.{}.post_attention_layernorm.weight",
        "layers.mlp_norm.bias": "gpt_neox.layers.{}.post_attention_layernorm.bias",
        "layers.up.weight": "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight",
        "layers.up.bias": "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias",
        "layers.down.weight": "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight",
        "layers.down.bias": "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias",
        "final_norm.weight": "gpt_neox.final_layer_norm.weight",
        "final_norm.bias": "gpt_neox.final_layer_norm.bias",
        "untied_head_VxD": ("embed_out.weight", "lm_head.weight"),
    }
    cuts: ClassVar[dict[str, Cut | None]] = {
        "embedding_VxD": Cut(0, "vocab_size"),
        "layers.attention_norm.weight": None,
        "layers.attention_norm.bias": None,
        "layers.query_key_value.weight": Cut(0, "num_heads"),
        "layers.query_key_value.bias": Cut(0, "num_heads"),
        "layers.out.weight": Cut(1, "num_heads"),
        "layers.out.bias": None,
        "layers.mlp_norm.weight": None,
        "layers.mlp_norm.bias": None,
        "layers.up.weight": Cut(0, "mlp_width"),
        "layers.up.bias": Cut(0, "mlp_width"),
        "layers.down.weight": Cut(1, "mlp_width"),
        "layers.down.bias": None,
        "final_norm.weight": None,
        "final_norm.bias": None,
        "untied_head_VxD": Cut(0, "vocab_size"),
    }
    ignored_names: ClassVar[str] = (
        r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)|gpt_neox\.rotary_emb\.inv_freq"
    )

    tied_head: bool = False
    rotary_fraction: float = 0.25
    parallel_residual: bool = True
    activation: str = "gelu"
    attention_bias: bool = True

    @classmethod
    def from_fields(cls, fields: Fields) -> "NeoXConfig":
        """Reads config.json; raises UserError for a field or a value that is not supported."""
        common = fields.common()
        width, num_heads = common["width"], common["num_heads"]
        if width % num_heads:
            raise fields.error("num_attention_heads", num_heads, f"does not divide hidden_size = {width}")
        rotary = fields.rope(rotary_emb_base="rope_theta", rotary_pct="partial_rotary_factor")
        rotary.only("rope_type", "default")
        rotary.leave_unscaled()
        fields.only("num_key_value_heads", num_heads)
        fields.only("head_dim", width // num_heads)
        config = cls(
            **common,
            num_kv_heads=num_heads,
            head_size=width // num_heads,
            norm_eps=fields.take("layer_norm_eps", float, 1e-5),
            rope_theta=rotary.take("rope_theta", float, 10_000.0),
            rotary_fraction=rotary.take("partial_rotary_factor", float, 0.25),
            parallel_residual=fields.take("use_parallel_residual", bool, True),
            activation=fields.only("hidden_act", *_TANH_GELU),
            attention_bias=fields.take("attention_bias", bool, True),
        )
        rotary.close()
        if config.rotary_fraction > 1 or config.rotary_size == 0 or config.rotary_size % 2:
            reason = f"leaves no even part of a head of size {config.head_size}"
            raise rotary.error("partial_rotary_factor", config.rotary_fraction, reason)
        return config

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        return super().to_fields() | {
            "architectures": ["GPTNeoXForCausalLM"],
            "layer_norm_eps": self.norm_eps,
            "rotary_emb_base": self.rope_theta,
            "rotary_pct": self.rotary_fraction,
            "use_parallel_residual": self.parallel_residual,
            "hidden_act": self.activation,
            "attention_bias": self.attention_bias,
        }

    @property
    def rotary_size(self) -> int:
        """The number of leading entries of each head that are rotated."""
        return int(self.head_size * self.rotary_fraction)

    def rotary_frequencies(self) -> np.ndarray:
        """Radians per position [rotary_size / 2]."""
        return rope.frequencies(self.rope_theta, self.rotary_size)

    def block(self, *, dtype: Any, rngs: nnx.Rngs) -> "NeoXBlock":
        """One layer with random weights."""
        return NeoXBlock(self, dtype=dtype, rngs=rngs)

    def final_norm(self, *, dtype: Any) -> LayerNorm:
        """The norm after the last layer."""
        return LayerNorm(self.width, self.norm_eps, dtype=dtype)


class NeoXBlock(nnx.Module):
    """Parallel residual: x + attention(norm(x)) + mlp(norm(x)); sequential: the MLP follows the attention."""

    def __init__(self, config: NeoXConfig, *, dtype: Any, rngs: nnx.Rngs):
        D, F, bias = config.width, config.mlp_width, config.attention_bias
        self.num_heads = config.num_heads
        self.parallel_residual = config.parallel_residual
        self.tanh_gelu = _TANH_GELU[config.activation]
        self.attention_norm = LayerNorm(D, config.norm_eps, dtype=dtype)
        self.query_key_value = Linear(D, 3 * D, bias=bias, dtype=dtype, rngs=rngs)
        self.out = Linear(D, D, bias=bias, dtype=dtype, rngs=rngs)
        self.mlp_norm = LayerNorm(D, config.norm_eps, dtype=dtype)
        self.up = Linear(D, F, bias=True, dtype=dtype, rngs=rngs)
        self.down = Linear(F, D, bias=True, dtype=dtype, rngs=rngs)

    def qkv(self, x_BxTxD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values [B, T, H, C], before rotation, from one projection ordered by head."""
        fused = self.query_key_value(self.attention_norm(x_BxTxD))
        fused_BxTxHx3xC = fused.reshape(*x_BxTxD.shape[:2], self.num_heads, 3, -1)
        return fused_BxTxHx3xC[..., 0, :], fused_BxTxHx3xC[..., 1, :], fused_BxTxHx3xC[..., 2, :]

    def finish(self, x_BxTxD: jax.Array, attended_BxTxHxC: jax.Array) -> jax.Array:
        """The layer's output [B, T, D]."""
        with jax.named_scope("attention"):
            after_BxTxD = x_BxTxD + self.out(attended_BxTxHxC.reshape(x_BxTxD.shape))
        with jax.named_scope("mlp"):
            return after_BxTxD + self.mlp(self.mlp_norm(x_BxTxD if self.parallel_residual else after_BxTxD))

    def mlp(self, y_BxTxD: jax.Array) -> jax.Array:
        """down(gelu(up(y)))."""
        return self.down(jax.nn.gelu(self.up(y_BxTxD), approximate=self.tanh_gelu))
