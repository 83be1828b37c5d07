"""What a decoder is in numbers, and how `config.json` is read without guessing.

A family is a subclass of `DecoderConfig` in a file of its own: its settings, its block, and its table from
parameters to checkpoint names. `jaxcram.models.registry` lists them.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from jaxcram.errors import UserError
from jaxcram.models.ignored import IGNORED


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
    def from_fields(cls, fields: "Fields") -> "DecoderConfig":
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


_REQUIRED: Any = object()
SLIDING, FULL = "sliding_attention", "full_attention"  # kinds of layers in `layer_types`
# What is computed with is fp32 and int32.
_RANGES: dict[type, tuple[float, float]] = {int: (1, 2**31 - 1), float: (1e-37, 1e38)}


class Fields:
    """The fields of one config.json, taken one by one; `close` refuses whatever nobody took.

    Every error is a UserError that names the file, the field and its value.
    """

    def __init__(self, values: Mapping[str, Any], source: str):
        self._rest = {name: value for name, value in values.items() if name not in IGNORED}
        self._source = source

    def error(self, name: str, value: Any, reason: str) -> UserError:
        """The error for one field: `source: name = value reason`."""
        return UserError(f"{self._source}: {name} = {value!r} {reason}")

    def take(self, name: str, kind: type[Any], default: Any = _REQUIRED) -> Any:
        """The value of `name` (null counts as absent), which has to be of `kind`; a number in its range."""
        value = self._rest.pop(name, None)
        if value is None:
            if default is _REQUIRED:
                raise UserError(f"{self._source}: the field {name} is missing")
            return default
        if type(value) is not kind and not (kind is float and type(value) is int):
            # Not isinstance: true and false are no integers here.
            raise self.error(name, value, f"should be of type {kind.__name__}")
        if kind in _RANGES:
            least, most = _RANGES[kind]
            if not value > 0:
                raise self.error(name, value, "should be a number greater than 0")
            if not least <= value <= most:
                raise self.error(name, value, f"should be a number from {least:g} to {most:g}")
        return kind(value)

    def only(self, name: str, *honoured: Any) -> Any:
        """The value of `name` if it is one of `honoured`, the first of which stands for an absent field."""
        value = self._rest.pop(name, None)
        if value is None:
            return honoured[0]
        if isinstance(value, bool) or value not in honoured:
            raise self.error(name, value, f"is not supported; supported: {', '.join(map(repr, honoured))}")
        return value

    def default(self, **values: Any) -> None:
        """Sets fields that are absent."""
        self._rest = values | self._rest

    def unnest(self, name: str, *ignored: str) -> None:
        """Puts the fields nested under `name`, if there are any, in the place of those around them.

        Of these, what is there wins; `ignored` are those that do not concern the nested model.
        """
        if inner := self.take(name, dict, {}):
            outer = {
                key: value for key, value in self._rest.items() if key not in ignored and value is not None
            }
            self._rest = {key: value for key, value in inner.items() if key not in IGNORED} | outer

    def common(self) -> dict[str, Any]:
        """The fields that all families spell alike, as keyword arguments of a config."""
        bos, eos = self._rest.pop("bos_token_id", None), self._rest.pop("eos_token_id", None)
        if bos is not None and type(bos) is not int:
            raise self.error("bos_token_id", bos, "should be a token id")
        return {
            "vocab_size": self.take("vocab_size", int),
            "width": self.take("hidden_size", int),
            "num_layers": self.take("num_hidden_layers", int),
            "num_heads": self.take("num_attention_heads", int),
            "mlp_width": self.take("intermediate_size", int),
            "max_positions": self.take("max_position_embeddings", int),
            "tied_head": self.take("tie_word_embeddings", bool, False),
            "bos_token_id": bos,
            "eos_token_ids": end_tokens({"eos_token_id": eos}, self._source),
        }

    def rope(self, parameters: Mapping[str, Any] | None = None, **old_names: str) -> "Fields":
        """The rotary settings in one form, wherever the file has them, which may be in several places.

        New files nest everything in `rope_parameters` (`parameters` if the caller took these), older ones
        have `rope_scaling` and fields at the top level; `old_names` maps those of a family to the nested
        names. Equal duplicates are one value.

        Raises:
            UserError: two places contradict each other.
        """
        nested: dict[str, Any] = {}

        def add(name: str, value: Any, known_as: str) -> None:
            if value is not None and nested.setdefault(name, value) != value:
                raise self.error(known_as, value, f"contradicts {name} = {nested[name]!r} of the same file")

        if parameters is None:
            parameters = self.take("rope_parameters", dict, {})
        where = "rope_parameters" if parameters else "rope_scaling"
        places = {"rope_parameters": parameters, "rope_scaling": self.take("rope_scaling", dict, {})}
        for key, place in places.items():
            for name, value in place.items():
                add("rope_type" if name == "type" else name, value, f"{key}: {name}")
        same = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
        for old, new in {**dict(zip(same, same, strict=True)), **old_names}.items():
            add(new, self._rest.pop(old, None), old)
        return Fields(nested, f"{self._source}: {where}")

    def grouped(self, head_size: int | None = None) -> dict[str, Any]:
        """`common`, and what families with grouped queries and RMSNorm add to it.

        Args:
            head_size: that of an absent `head_dim`; None divides the width among the heads.
        """
        common = self.common()
        num_heads = common["num_heads"]
        num_kv_heads = self.take("num_key_value_heads", int, num_heads)
        if num_heads % num_kv_heads:
            raise self.error("num_key_value_heads", num_kv_heads, f"does not divide the {num_heads} heads")
        head_size = self.take("head_dim", int, head_size or common["width"] // num_heads)
        if head_size % 2 or head_size == 0:
            raise self.error("head_dim", head_size, "should be even, for rotary positions")
        norm_eps = self.take("rms_norm_eps", float, 1e-6)
        return common | {"num_kv_heads": num_kv_heads, "head_size": head_size, "norm_eps": norm_eps}

    def windows(self, window: int | None, slides: Sequence[bool]) -> tuple[int | None, ...]:
        """The windows of the layers (see `DecoderConfig`), by `layer_types`.

        Args:
            window: that of sliding layers.
            slides: of each layer, whether it slides if the file does not say so.
        """
        kinds = self.take("layer_types", list, []) or [SLIDING if slide else FULL for slide in slides]
        if len(kinds) != len(slides) or not all(kind in (SLIDING, FULL) for kind in kinds):
            reason = f"should be {len(slides)} layers, each {SLIDING!r} or {FULL!r}"
            raise self.error("layer_types", kinds, reason)
        if SLIDING not in kinds:
            return ()
        if window is None:
            raise self.error("layer_types", kinds, "slides, but there is no sliding_window")
        return tuple(window if kind == SLIDING else None for kind in kinds)

    def leave_unscaled(self) -> None:
        """Takes what only scaled rotary positions read, where `rope_type` is default."""
        self.only("factor", 1.0)
        self.take("original_max_position_embeddings", int, None)

    def close(self) -> None:
        """Refuses unknown fields, unless they say no (null, false, 0) or nothing (empty)."""
        said = {name: value for name, value in self._rest.items() if value not in (None, False, {}, [])}
        unknown = [f"{name} = {value!r}" for name, value in said.items()]
        if unknown:
            raise UserError(f"{self._source}: not supported by this model family: {', '.join(unknown)}")


def end_tokens(values: Mapping[str, Any], source: str) -> tuple[int, ...]:
    """The ids in `eos_token_id` of config.json or generation_config.json: none, a number, or a list."""
    given = values.get("eos_token_id")
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(type(token) is int for token in ids):
        raise UserError(f"{source}: eos_token_id = {given!r} should be token ids")
    return tuple(ids)
