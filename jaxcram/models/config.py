"""What a decoder is in numbers.

A family is a subclass of `DecoderConfig` in a file of its own: its settings, its block, and its table from
parameters to checkpoint names. `jaxcram.models.registry` lists them.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from jaxcram.errors import UserError
from jaxcram.models.fields import FULL, SLIDING, Fields


class Block(Protocol):
    """One decoder layer, as what precedes attention and what follows it.

    Attention itself (rotary positions, masks, knockout, cache) is the decoder's, the same for every family.
    """

    def qkv(self, x_BxTxD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Norm and projections: queries [B, T, H, C], keys and values [B, T, G, C], before rotation."""

    def finish(self, x_BxTxD: jax.Array, attended_BxTxHxC: jax.Array) -> jax.Array:
        """Output projection, MLP and residuals: the layer's output [B, T, D]."""


class Cut(NamedTuple):
    """How tensor parallelism cuts a parameter (one layer of it), if its pieces divide among the devices.

    Attributes:
        axis: the axis that is cut; weights of projections are [out, in].
        pieces: the field of the config that says into how many pieces it may be cut.
    """

    axis: int
    pieces: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(abc.ABC):
    """The numbers every family has; the token ids are there for whoever decodes, the forward ignores them."""

    family: ClassVar[str]  # `model_type` in config.json
    # Path of a parameter in the decoder -> name of its tensor in the checkpoint; {} stands for the layer. A
    # tuple names alternatives: any is read, the first is written. Parameters that only some configs have are
    # listed too.
    checkpoint_names: ClassVar[Mapping[str, str | tuple[str, ...]]]
    # Path of a parameter -> how the `model` axis of a mesh cuts it (see `models.sharding`); None is whole.
    cuts: ClassVar[Mapping[str, Cut | None]]
    ignored_names: ClassVar[str]  # regular expression of stored buffers that are no parameters

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_width: int
    max_positions: int
    tied_head: bool
    norm_eps: float
    rope_theta: float = 10_000.0
    # Of each layer, to how many keys up to its own a query attends (None: to all); empty if all layers do.
    windows: tuple[int | None, ...] = ()
    # Attention scores, and logits, are capped smoothly by c tanh(x / c); None leaves them as they are.
    attention_cap: float | None = None
    logit_cap: float | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    @classmethod
    @abc.abstractmethod
    def from_fields(cls, fields: Fields) -> "DecoderConfig":
        """Reads a Hugging Face config.json; raises UserError for a value that is not honoured."""

    def to_fields(self) -> dict[str, Any]:
        """What `from_fields` reads, spelt as all releases of transformers do; a family adds its own."""
        eos = self.eos_token_ids
        return {
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.mlp_width,
            "max_position_embeddings": self.max_positions,
            "tie_word_embeddings": self.tied_head,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(eos) if len(eos) > 1 else next(iter(eos), None),
        }

    def require_ids(self, ids: npt.ArrayLike, whose: str) -> None:
        """Refuses token ids without a row in the embedding, for which XLA would read another row.

        Raises:
            UserError: an id is negative or beyond the vocabulary; `whose` says where the ids are from.
        """
        flat = np.asarray(ids).reshape(-1)
        wrong = flat[(flat < 0) | (flat >= self.vocab_size)]
        if wrong.size:
            raise UserError(
                f"{whose}: its token {wrong[0]} is beyond the model's vocabulary of {self.vocab_size}: "
                "tokenizer and weights do not belong together"
            )

    @abc.abstractmethod
    def block(self, *, dtype: Any, rngs: nnx.Rngs) -> Block:
        """Creates one layer with random weights."""

    @abc.abstractmethod
    def final_norm(self, *, dtype: Any) -> Callable[[jax.Array], jax.Array]:
        """Creates the norm after the last layer."""

    @property
    def rotary_size(self) -> int:
        """How many leading entries of each head are rotated."""
        return self.head_size

    @property
    def least_parameters(self) -> int:
        """A lower bound of the parameters: the embedding, and two matrices each of attention and MLP."""
        per_layer = 2 * self.width * (self.num_heads * self.head_size + self.mlp_width)
        return self.vocab_size * self.width + self.num_layers * per_layer

    @property
    def window(self) -> int | None:
        """The window of the layers that slide, if any do."""
        return next((window for window in self.windows if window), None)

    @property
    def layer_types(self) -> list[str]:
        """The field `layer_types` of config.json."""
        return [SLIDING if window else FULL for window in self.windows or [None] * self.num_layers]

    def windows_within(self, num_keys: int) -> np.ndarray | None:
        """The windows of the layers, int32 [L], of as many keys; None if each holds all of them."""
        windows = [num_keys if window is None else min(window, num_keys) for window in self.windows]
        return np.asarray(windows, np.int32) if windows and min(windows) < num_keys else None

    def only_causal(self, num_keys: int) -> bool:
        """Whether attention over as many keys is causal and no more, which fused kernels require."""
        return self.attention_cap is None and self.windows_within(num_keys) is None

    @property
    def attention_scale(self) -> float:
        """The factor of attention scores."""
        return self.head_size**-0.5

    @property
    def embedding_scale(self) -> float | None:
        """The factor of token embeddings; None is 1."""
        return None

    @abc.abstractmethod
    def rotary_frequencies(self) -> np.ndarray:
        """Radians per position, fp32 [rotary_size / 2]; [L, rotary_size / 2] if layers differ."""
