"""The Qwen families: a Llama with biases on queries, keys and values (2), or norms on queries and keys (3).

Qwen Team 2024, "Qwen2 technical report"; 2025, "Qwen3 technical report".
"""

import dataclasses
from typing import Any, ClassVar

from jaxcram.models.config import Cut
from jaxcram.models.fields import SLIDING, Fields
from jaxcram.models.llama import HEAD_NORMS, WITHOUT_MLP_BIASES, LlamaConfig, read_numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config(LlamaConfig):
    """Settings of a Qwen 2 or 2.5; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "qwen2"
    architecture: ClassVar[str] = "Qwen2ForCausalLM"
    checkpoint_names: ClassVar[dict[str, str | tuple[str, ...]]] = {
        path: name for path, name in WITHOUT_MLP_BIASES.items() if path != "layers.out.bias"
    }
    cuts: ClassVar[dict[str, Cut | None]] = {path: LlamaConfig.cuts[path] for path in checkpoint_names}

    attention_bias: bool = True

    @classmethod
    def from_fields(cls, fields: Fields) -> "Qwen2Config":
        """Reads config.json; raises UserError for a field or a value that is not supported."""
        fields.default(num_key_value_heads=32)
        fields.ignore("attention_bias")  # some files have it; the biases do not depend on it
        numbers = read_numbers(fields)
        return cls(**numbers, windows=_windows(fields, numbers["num_layers"]))

    @property
    def out_bias(self) -> bool:
        """Whether the projection after attention has a bias."""
        return False

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        fields = super().to_fields() | _written_windows(self)
        del fields["attention_bias"], fields["mlp_bias"]
        return fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config(LlamaConfig):
    """Settings of a dense Qwen 3; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "qwen3"
    architecture: ClassVar[str] = "Qwen3ForCausalLM"
    norms_queries: ClassVar[bool] = True
    checkpoint_names: ClassVar[dict[str, str | tuple[str, ...]]] = {**WITHOUT_MLP_BIASES, **HEAD_NORMS}
    # The norms of heads are small, and whole.
    cuts: ClassVar[dict[str, Cut | None]] = {path: LlamaConfig.cuts.get(path) for path in checkpoint_names}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Qwen3Config":
        """Reads config.json; raises UserError for a field or a value that is not supported."""
        fields.default(num_key_value_heads=32)
        numbers = read_numbers(fields, head_size=128)
        return cls(
            **numbers,
            windows=_windows(fields, numbers["num_layers"]),
            attention_bias=fields.take("attention_bias", bool, False),
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        fields = super().to_fields() | _written_windows(self)
        del fields["mlp_bias"]
        return fields


def _windows(fields: Fields, num_layers: int) -> tuple[int | None, ...]:
    """The windows of the layers: those from `max_window_layers` on slide, if any do."""
    fields.default(sliding_window=4096)  # null means none
    window = fields.take("sliding_window", int, None)
    first = fields.take("max_window_layers", int, 28, zero=True)
    if not fields.take("use_sliding_window", bool, False):
        window = None
    return fields.windows(window, [window is not None and layer >= first for layer in range(num_layers)])


def _written_windows(config: LlamaConfig) -> dict[str, Any]:
    """What `_windows` reads; releases before `layer_types` need the first layer that slides."""
    kinds = config.layer_types
    return {
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": kinds.index(SLIDING) if SLIDING in kinds else config.num_layers,
        "layer_types": kinds,
    }
