"""From effects of items to what a knockout sweep has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcram.evaluate.accuracy import accuracy
from jaxcram.evaluate.attention import correlation
from jaxcram.evaluate.knockout import Sweep
from jaxcram.evaluate.knockout_effects import BASE, Effect


def summarise(
    conditions: Sweep,
    effects: Sequence[Effect],
    memory_mass_IxL: np.ndarray,
    bos_mass_IxL: np.ndarray,
    *,
    by: str = "token",
) -> dict[str, Any]:
    """What a sweep has found; pure Python values, None where there is none.

    Args:
        conditions: of the sweep.
        effects: of all items under all of its conditions, and of those with endings under `BASE`; any order.
        memory_mass_IxL: attention that each item's text gives to the memory, 0 to 1 (see `attention.masses`).
        bos_mass_IxL: what it gives to its first token without memory; NaN for texts of one token.
        by: which decisions count (see `accuracy.NORMALIZATIONS`).

    Returns:
        `items`; `base_accuracy` and `crammed_accuracy`, each with an `_interval` ([low, high], 95%), None for
        texts; `crammed_tf_accuracy`; `attention_mass`: `memory` and `bos`, means over items [L] in percent,
        and their `correlation` over layers; and under the name of each protocol its conditions from no layer
        to all, each an entry of

            layers              numbers of the layers that do not see the memory
            accuracy            share of items whose right ending is chosen, and its
            accuracy_interval   None for texts
            tf_accuracy         mean over items, 0 to 1
            attention_mass      what these layers give the memory when nothing is barred: mean over them,
                                percent; None for no layer
    """
    memory_L, bos_L = _percent(memory_mass_IxL), _percent(bos_mass_IxL)
    by_condition: dict[str, list[Effect]] = {name: [] for name in (BASE, *conditions.names)}
    for effect in effects:
        by_condition[effect.condition].append(effect)

    def entry(index: int) -> dict[str, Any]:
        layers, found = np.flatnonzero(conditions.layers_CxL[index]), by_condition[conditions.names[index]]
        return {
            "layers": layers.tolist(),
            **_decided(found, by),
            "tf_accuracy": _tf_accuracy(found),
            "attention_mass": _number(memory_L[layers].mean()) if len(layers) else None,
        }

    none = by_condition[conditions.names[0]]
    return {
        "items": len(none),
        **{f"base_{name}": value for name, value in _decided(by_condition[BASE], by).items()},
        **{f"crammed_{name}": value for name, value in _decided(none, by).items()},
        "crammed_tf_accuracy": _tf_accuracy(none),
        **{protocol: list(map(entry, indices)) for protocol, indices in conditions.protocols.items()},
        "attention_mass": {
            "memory": list(map(_number, memory_L)),
            "bos": list(map(_number, bos_L)),
            "correlation": _number(correlation(memory_L, bos_L)),
        },
    }


def _decided(effects: Sequence[Effect], by: str) -> dict[str, Any]:
    """The accuracy of decisions, and its interval."""
    right = [effect.right[by] for effect in effects if effect.right]
    if not right:
        return {"accuracy": None, "accuracy_interval": None}
    found = accuracy(np.asarray(right))
    return {"accuracy": found.mean, "accuracy_interval": [found.low, found.high]}


def _tf_accuracy(effects: Sequence[Effect]) -> float | None:
    # Sorted, so that the order of items changes no bit of the sum.
    shares = sorted(effect.tf_accuracy for effect in effects)
    return float(np.mean(shares)) if shares else None


def _percent(mass_IxL: np.ndarray) -> np.ndarray:
    """The mean over items that have a mass, in percent, NaN where none has, [L]."""
    has_I = ~np.isnan(mass_IxL).any(1)
    if not has_I.any():
        return np.full(mass_IxL.shape[1], np.nan)
    return 100 * np.sort(mass_IxL[has_I].astype(np.float64), axis=0).mean(0)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
