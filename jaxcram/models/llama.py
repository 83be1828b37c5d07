"""The Llama family: RMSNorm, SwiGLU, grouped queries, rotary positions (Llama 1 to 3.2, SmolLM2).

Touvron et al. 2023, "LLaMA"; Grattafiori et al. 2024, "The Llama 3 herd of models".
"""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from jaxcram.models.config import Cut, DecoderConfig, Fields
from jaxcram.models.layers import Linear, RMSNorm


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """Parameters of the `llama3` rope type, which slows low-frequency rotations for longer contexts."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        """Frequencies divided by `factor` below the low cut-off, kept above the high one, blended between."""
        turns = self.original_max_position_embeddings * frequencies / (2 * np.pi)
        blend = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = np.clip(blend, 0.0, 1.0)
        return ((1 - blend) * frequencies / self.factor + blend * frequencies).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """Settings of a Llama; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "llama"
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
    rope_scaling: Llama3Scaling | None = None
    attention_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def from_fields(cls, fields: Fields) -> "LlamaConfig":
        """Reads config.json; raises UserError for a field or a value that is not supported."""
        common = fields.common()
        width, num_heads = common["width"], common["num_heads"]
        num_kv_heads = fields.take("num_key_value_heads", int, num_heads)
        if num_heads % num_kv_heads:
            raise fields.error("num_key_value_heads", num_kv_heads, f"does not divide the {num_heads} heads")
        head_size = fields.take("head_dim", int, width // num_heads)
        if head_size % 2 or head_size == 0:
            raise fields.error("head_dim", head_size, "should be even, for rotary positions")
        fields.only("hidden_act", "silu", "swish")  # two names of one function
        fields.only("pretraining_tp", 1)
        rope = fields.rope()
        rope.only("partial_rotary_factor", 1.0)
        theta, scaling = rope.take("rope_theta", float, 10_000.0), None
        if rope.only("rope_type", "default", "llama3") == "llama3":
            scaling = Llama3Scaling(
                factor=rope.take("factor", float),
                low_freq_factor=rope.take("low_freq_factor", float),
                high_freq_factor=rope.take("high_freq_factor", float),
                original_max_position_embeddings=rope.take("original_max_position_embeddings", int),
            )
            if scaling.high_freq_factor <= scaling.low_freq_factor:
                reason = f"should be above low_freq_factor = {scaling.low_freq_factor}"
                raise rope.error("high_freq_factor", scaling.high_freq_factor, reason)
        else:
            rope.leave_unscaled()
        rope.close()
        return cls(
            **common,
            num_kv_heads=num_kv_heads,
            head_size=head_size,
            norm_eps=fields.take("rms_norm_eps", float, 1e-6),
            rope_theta=theta,
            rope_scaling=scaling,
            attention_bias=fields.take("attention_bias", bool, False),
            mlp_bias=fields.take("mlp_bias", bool, False),
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        scaling = self.rope_scaling and {"rope_type": "llama3", **dataclasses.asdict(self.rope_scaling)}
        return super().to_fields() | {
            "architectures": ["LlamaForCausalLM"],
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_size,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "hidden_act": "silu",
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
        }

    def rotary_frequencies(self) -> np.ndarray:
        """Radians per position [C / 2], scaled if the config has rope_scaling."""
        plain = super().rotary_frequencies()
        return plain if self.rope_scaling is None else self.rope_scaling(plain)

    def block(self, *, dtype: Any, rngs: nnx.Rngs) -> "LlamaBlock":
        """One layer with random weights."""
        return LlamaBlock(self, dtype=dtype, rngs=rngs)

    def final_norm(self, *, dtype: Any) -> RMSNorm:
        """The norm after the last layer."""
        return RMSNorm(self.width, self.norm_eps, dtype=dtype)


class LlamaBlock(nnx.Module):
    """x + attention(norm(x)), then h + mlp(norm(h)), with mlp(y) = down(silu(gate(y)) * up(y))."""

    def __init__(self, config: LlamaConfig, *, dtype: Any, rngs: nnx.Rngs):
        D, C, F = config.width, config.head_size, config.mlp_width
        H, G = config.num_heads, config.num_kv_heads
        self.head_size = C
        bias = config.attention_bias
        self.attention_norm = RMSNorm(D, config.norm_eps, dtype=dtype)
        self.query = Linear(D, H * C, bias=bias, dtype=dtype, rngs=rngs)
        self.key = Linear(D, G * C, bias=bias, dtype=dtype, rngs=rngs)
        self.value = Linear(D, G * C, bias=bias, dtype=dtype, rngs=rngs)
        self.out = Linear(H * C, D, bias=bias, dtype=dtype, rngs=rngs)
        bias = config.mlp_bias
        self.mlp_norm = RMSNorm(D, config.norm_eps, dtype=dtype)
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
