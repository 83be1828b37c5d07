"""The text part of Gemma 3: sliding and full layers, norms before and after, scaled embeddings.

Gemma Team 2025, "Gemma 3 Technical Report".
"""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from jaxcram.models import rope
from jaxcram.models.config import Cut
from jaxcram.models.fields import FULL, SLIDING, Fields
from jaxcram.models.layers import OffsetRMSNorm
from jaxcram.models.llama import HEAD_NORMS, WITHOUT_MLP_BIASES, LlamaBlock, LlamaConfig

# What files leave out because transformers has it as the default; the published 4B gives three numbers.
_DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
# Of a model with images, beside its text_config.
_OF_IMAGES = (
    *("vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index"),
    *("boi_token_id", "eoi_token_id", "image_token_id"),
)


def _names(name: str) -> tuple[str, ...]:
    """Where a tensor is: in files of the text model, in those of one with images, in transformers 5."""
    return name, f"language_model.{name}", name.replace("model.", "model.language_model.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaConfig(LlamaConfig):
    """Settings of a Gemma 3; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "gemma3_text"
    architecture: ClassVar[str] = "Gemma3ForCausalLM"
    norms_queries: ClassVar[bool] = True
    checkpoint_names: ClassVar[dict[str, str | tuple[str, ...]]] = {
        **{path: _names(name) for path, name in (WITHOUT_MLP_BIASES | HEAD_NORMS).items()},
        "layers.attended_norm.weight": _names("model.layers.{}.post_attention_layernorm.weight"),
        "layers.mlp_norm.weight": _names("model.layers.{}.pre_feedforward_layernorm.weight"),
        "layers.mlp_out_norm.weight": _names("model.layers.{}.post_feedforward_layernorm.weight"),
        "untied_head_VxD": ("lm_head.weight", "language_model.lm_head.weight"),
    }
    # The norms that a Llama lacks are small, and whole.
    cuts: ClassVar[dict[str, Cut | None]] = {path: LlamaConfig.cuts.get(path) for path in checkpoint_names}
    ignored_names: ClassVar[str] = r"(model\.)?(vision_tower|multi_modal_projector)\..*"

    query_pre_attn_scalar: int = 256
    rope_local_theta: float = 10_000.0
    rope_local_scaling: rope.Scaling | None = None

    @classmethod
    def from_fields(cls, fields: Fields) -> "GemmaConfig":
        """Reads config.json, of a text model or of one with images; raises UserError."""
        fields.ignore(*_OF_IMAGES)
        fields.unnest("text_config")
        fields.default(**_DEFAULTS)
        fields.only("hidden_activation", "gelu_pytorch_tanh")
        # The rotary settings of either kind of layer; older files have full layers' like any other family.
        rotary = fields.take("rope_parameters", dict, {})
        theta, scaling = rope.read(fields.rope(rotary.pop(FULL, {})), 1_000_000.0)
        local = fields.rope(rotary.pop(SLIDING, {}), rope_local_base_freq="rope_theta")
        local_theta, local_scaling = rope.read(local, 10_000.0)
        if rotary:
            raise fields.error("rope_parameters", rotary, f"should be those of {FULL} and {SLIDING}")
        numbers = fields.grouped(head_size=256)
        pattern = fields.take("_sliding_window_pattern", int, 6)
        pattern = fields.take("sliding_window_pattern", int, pattern)
        slides = [number % pattern > 0 for number in range(1, numbers["num_layers"] + 1)]
        return cls(
            **numbers,
            rope_theta=theta,
            rope_scaling=scaling,
            rope_local_theta=local_theta,
            rope_local_scaling=local_scaling,
            windows=fields.windows(fields.take("sliding_window", int), slides),
            query_pre_attn_scalar=fields.take("query_pre_attn_scalar", int, 256),
            attention_cap=fields.take("attn_logit_softcapping", float, None),
            logit_cap=fields.take("final_logit_softcapping", float, None),
            attention_bias=fields.take("attention_bias", bool, False),
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        fields = super().to_fields() | {
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": self.query_pre_attn_scalar,
            "rope_local_base_freq": self.rope_local_theta,
            "sliding_window": self.window or _DEFAULTS["sliding_window"],
            "layer_types": self.layer_types,
            "attn_logit_softcapping": self.attention_cap,
            "final_logit_softcapping": self.logit_cap,
        }
        del fields["hidden_act"], fields["mlp_bias"]
        return fields

    @property
    def attention_scale(self) -> float:
        """The factor of attention scores, which need not follow from the head size."""
        return self.query_pre_attn_scalar**-0.5

    @property
    def embedding_scale(self) -> float:
        """The factor of token embeddings."""
        return self.width**0.5

    def rotary_frequencies(self) -> np.ndarray:
        """Radians per position [L, C / 2]: sliding layers have a base of their own."""
        full = super().rotary_frequencies()
        local = rope.frequencies(self.rope_local_theta, self.head_size, self.rope_local_scaling)
        return np.stack([local if kind == SLIDING else full for kind in self.layer_types])

    def norm(self, size: int, *, dtype: Any) -> OffsetRMSNorm:
        """A norm of the family, over `size` entries."""
        return OffsetRMSNorm(size, self.norm_eps, dtype=dtype)

    def block(self, *, dtype: Any, rngs: nnx.Rngs) -> "GemmaBlock":
        """One layer with random weights."""
        return GemmaBlock(self, dtype=dtype, rngs=rngs)


class GemmaBlock(LlamaBlock):
    """A Llama's layer with a norm on what attention and MLP add too, and GELU in place of SiLU."""

    def __init__(self, config: GemmaConfig, *, dtype: Any, rngs: nnx.Rngs):
        super().__init__(config, dtype=dtype, rngs=rngs)
        self.attended_norm = config.norm(config.width, dtype=dtype)
        self.mlp_out_norm = config.norm(config.width, dtype=dtype)

    def finish(self, x_BxTxD: jax.Array, attended_BxTxHxC: jax.Array) -> jax.Array:
        """The layer's output [B, T, D]."""
        with jax.named_scope("attention"):
            out_BxTxD = self.out(attended_BxTxHxC.reshape(*x_BxTxD.shape[:2], -1))
            x_BxTxD = x_BxTxD + self.attended_norm(out_BxTxD)
        with jax.named_scope("mlp"):
            return x_BxTxD + self.mlp_out_norm(self.mlp(self.mlp_norm(x_BxTxD)))

    def mlp(self, y_BxTxD: jax.Array) -> jax.Array:
        """GeGLU (Shazeer 2020, eq. 6), with GELU approximated by tanh."""
        return self.down(jax.nn.gelu(self.gate(y_BxTxD), approximate=True) * self.up(y_BxTxD))
