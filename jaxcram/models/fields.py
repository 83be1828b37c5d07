"""The fields of config.json, read without guessing: honoured, or refused by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcram.errors import UserError
from jaxcram.models.ignored import IGNORED

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

    def take(self, name: str, kind: type[Any], default: Any = _REQUIRED, *, zero: bool = False) -> Any:
        """The value of `name` (null counts as absent), which has to be of `kind`; a number in its range.

        Numbers are greater than 0, or `zero` if that is honoured.
        """
        value = self._rest.pop(name, None)
        if value is None:
            if default is _REQUIRED:
                raise UserError(f"{self._source}: the field {name} is missing")
            return default
        if type(value) is not kind and not (kind is float and type(value) is int):
            # Not isinstance: true and false are no integers here.
            raise self.error(name, value, f"should be of type {kind.__name__}")
        if kind in _RANGES and not (zero and value == 0):
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

    def unnest(self, name: str) -> None:
        """Merges the fields nested under `name`, if there are any, into those around them, which win."""
        inner = self.take(name, dict, {})
        outer = {key: value for key, value in self._rest.items() if value is not None}
        self._rest = {key: value for key, value in inner.items() if key not in IGNORED} | outer

    def ignore(self, *names: str) -> None:
        """Drops fields that do not concern the family."""
        for name in names:
            self._rest.pop(name, None)

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
