"""SmolLM3: a Llama in which every fourth layer has no rotary positions.

Bakouch et al. 2025, "SmolLM3"; Yang et al. 2025, "Rope to Nope and back again".
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from jaxcram.models.fields import Fields
from jaxcram.models.llama import LlamaConfig, read_numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmolLM3Config(LlamaConfig):
    """Settings of a SmolLM3; defaults are those of Hugging Face for absent fields."""

    family: ClassVar[str] = "smollm3"
    architecture: ClassVar[str] = "SmolLM3ForCausalLM"

    rotates: tuple[bool, ...]  # of each layer, whether it has rotary positions

    @classmethod
    def from_fields(cls, fields: Fields) -> "SmolLM3Config":
        """Reads config.json; raises UserError for a field or a value that is not supported."""
        fields.default(num_key_value_heads=4, tie_word_embeddings=True)
        fields.ignore("max_window_layers", "pretraining_tp")  # published, and read by nothing
        numbers = read_numbers(fields, rope_theta=2_000_000.0)
        num_layers = numbers["num_layers"]
        interval = fields.take("no_rope_layer_interval", int, 4)
        flags = fields.take("no_rope_layers", list, [])
        rotates = flags or [number % interval > 0 for number in range(1, num_layers + 1)]
        if len(rotates) < num_layers or not all(type(flag) in (bool, int) for flag in rotates):
            reason = f"should be {num_layers} flags: 0 where a layer has no rotary positions, else 1"
            raise fields.error("no_rope_layers", flags, reason)
        rotates = tuple(map(bool, rotates[:num_layers]))
        window = fields.take("sliding_window", int, None)
        if not fields.take("use_sliding_window", bool, False):
            window = None
        return cls(
            **numbers,
            rotates=rotates,
            windows=fields.windows(window, [window is not None and not flag for flag in rotates]),
            attention_bias=fields.take("attention_bias", bool, False),
            mlp_bias=fields.take("mlp_bias", bool, False),
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of config.json, rotary settings in the older form, which all releases read."""
        return super().to_fields() | {
            "pad_token_id": None,  # the default is beyond a smaller vocabulary
            "no_rope_layers": [int(flag) for flag in self.rotates],
            "use_sliding_window": self.window is not None,
            "sliding_window": self.window,
            "layer_types": self.layer_types,
        }

    def rotary_frequencies(self) -> np.ndarray:
        """Radians per position [L, C / 2]: 0 without rotary positions, which changes no bit."""
        return np.outer(np.asarray(self.rotates, np.float32), super().rotary_frequencies())
