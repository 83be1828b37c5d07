"""The conditions of knockout sweeps: at which layers the text does not see the memory.

A condition is a set of layers. The three protocols go from no layer to all L of them:

    single    none, each layer alone, all
    forward   none, layers 0 to k for every k (the last is all)
    reverse   none, layers k to L - 1 for every k from the last down (layer 0 makes it all)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from jaxcram.errors import UserError

PROTOCOLS = ("single", "forward", "reverse")


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """Conditions, none of them twice; the first bars nothing and is the reference.

    Attributes:
        names: of the C conditions: "none", "all", or the layers as in "0-3,7".
        layers_CxL: bool, where the text does not see the memory.
        protocols: the conditions of each protocol as indices, from no layer to all of them, and under
            "layers" those of the given sets.
    """

    names: tuple[str, ...]
    layers_CxL: np.ndarray
    protocols: dict[str, tuple[int, ...]]


def sweep(num_layers: int, protocols: Iterable[str] = PROTOCOLS, sets: Iterable[str] = ()) -> Sweep:
    """The conditions of protocols and of any sets of layers.

    Args:
        num_layers: L of the model.
        protocols: some of `PROTOCOLS`.
        sets: each as `barred` reads it, such as "0-3,7".

    Raises:
        UserError: an unknown protocol, or what `barred` refuses.
    """
    names, rows = ["none"], [np.zeros(num_layers, bool)]

    def number(layers_L: np.ndarray) -> int:
        name = spelt(layers_L)
        if name not in names:
            names.append(name)
            rows.append(layers_L)
        return names.index(name)

    layers = np.arange(num_layers)
    found: dict[str, tuple[int, ...]] = {}
    for protocol in protocols:
        match protocol:
            case "single":
                conditions = [*(layers == k for k in layers), layers >= 0]
            case "forward":
                conditions = [layers <= k for k in layers]
            case "reverse":
                conditions = [layers >= k for k in layers[::-1]]
            case _:
                raise UserError(f"protocol {protocol!r} must be one of {', '.join(PROTOCOLS)}")
        # One layer alone is all of a model of one.
        found[protocol] = tuple(dict.fromkeys((0, *map(number, conditions))))
    if given := [barred(layers, num_layers) for layers in sets]:
        found["layers"] = tuple(dict.fromkeys(map(number, given)))
    return Sweep(tuple(names), np.stack(rows), found)


def barred(layers: str | Iterable[int] | np.ndarray, num_layers: int) -> np.ndarray:
    """A set of layers as a condition, bool [L].

    Args:
        layers: "0-3,7", "all", the numbers themselves, or a boolean array [L].
        num_layers: L of the model.

    Raises:
        UserError: no layers, which would bar nothing; a layer that the model has not; or something else.
    """
    if isinstance(layers, str):
        numbers = _numbers(layers, num_layers)
    else:
        array = np.asarray(layers if isinstance(layers, np.ndarray) else list(layers))
        if array.dtype == bool:
            if array.shape != (num_layers,):
                raise UserError(
                    f"knockout of shape {list(array.shape)}: the model has {num_layers} layers, give one "
                    "boolean for each"
                )
            array = np.flatnonzero(array)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"layers {layers!r}: give whole numbers, or one boolean for each layer")
        numbers = array.reshape(-1).tolist()
    if not numbers:
        raise UserError(f"layers {_shown(layers)}: no layer is named, which would bar nothing; name some")
    if absent := [number for number in numbers if not 0 <= number < num_layers]:
        raise UserError(
            f"layers {_shown(layers)}: there is no layer {absent[0]}; the model has layers 0 to "
            f"{num_layers - 1}"
        )
    condition_L = np.zeros(num_layers, bool)
    condition_L[numbers] = True
    return condition_L


def _numbers(layers: str, num_layers: int) -> list[int]:
    """The layers that "0-3,7" names, of those beyond the model only the first of each range."""
    if layers.strip() == "all":
        return list(range(num_layers))
    numbers: list[int] = []
    for part in layers.split(",") if layers.strip() else []:
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        if not match:
            raise UserError(
                f"layers {layers!r}: {part!r} is not a layer or a range of layers; write as in 0-3,7"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"layers {layers!r}: the range {part!r} runs backwards; write {last}-{first}")
        numbers += range(first, max(first, min(last, num_layers)) + 1)
    return numbers


def _shown(layers: object) -> str:
    if isinstance(layers, np.ndarray):
        layers = layers.tolist()
    return repr(sorted(layers)) if isinstance(layers, set | frozenset) and layers else repr(layers)


def spelt(layers_L: np.ndarray) -> str:
    """The name of a condition: "none", "all", or its layers as in "0-3,7", which `barred` reads."""
    if not layers_L.any():
        return "none"
    if layers_L.all():
        return "all"
    numbers = np.flatnonzero(layers_L)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
