"""The table of a reconstruction: what comes back, by setup and decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_DECODING = {"tf": "TF", "exact": "exact", "cached": "cached"}
_HEADER = (
    *("setup", "lr", "conv.", "tokens", "margin", "decoding", "accuracy", "after"),
    *("no miss", "<=1", "<=2", "@0", "@1", "@2"),
)
_NOTES = (
    "conv.: lanes with as many tokens right as were asked for, in progressive mode the whole text",
    "margin: least logit of a right token minus the largest other one, up to the first miss; of all lanes",
    "accuracy: share of the tokens under teacher forcing (TF) and from two greedy decoders, in the shapes",
    "    of cramming (exact) and with a key-value cache (cached), with 95% intervals (bootstrap over lanes)",
    "after: share of the tokens after the first wrong one that are right",
    "no miss, <=1, <=2: lanes with so many wrong tokens; @0, @1, @2: lanes wrong at that position, in %",
)


def reconstruction(setups: Sequence[Mapping[str, Any]]) -> str:
    """Three lines for each setup and learning rate, one a decoder, and notes below them.

    Args:
        setups: see `jaxcram.evaluate.reconstruction.summarise`.
    """
    runs = {one["run"] for one in setups}
    ambiguous = len({one["setup"] for one in setups}) < len(runs)
    lines: list[Sequence[str]] = [_HEADER]
    for one in setups:
        name = f"{one['setup']} ({_last(one['run'])})" if ambiguous else one["setup"]
        first = [
            *(name, f"{one['learning_rate']:g}"),
            *(f"{one['converged']}/{one['lanes']}", f"{one['tokens']:.1f}"),
            "-" if one["least_margin"] is None else f"{one['least_margin']:.3g}",
        ]
        for decoder, label in _DECODING.items():
            lines.append([*first, label, *_cells(one["decoders"][decoder], one["lanes"] - one["empty"])])
            first = [""] * len(first)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    left = {0, 5}
    aligned = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    ]
    empty = [
        f"{one['empty']} of {one['lanes']} lanes of {one['setup']}, learning rate {one['learning_rate']:g}, "
        "have no exact prefix and are left out"
        for one in setups
        if one["empty"]
    ]
    return "\n".join([*aligned, *_NOTES, *empty])


def _cells(of: Mapping[str, Any], lanes: int) -> list[str]:
    accuracy = _rounded_down(of["accuracy"])
    if of["accuracy"] is not None:
        low, high = of["interval"]
        accuracy += f" [{low:.2f}, {high:.2f}]"
    within = [f"{count}/{lanes}" for count in of["within"][:3]]
    rates = [f"{100 * rate:.0f}" for rate in of["mismatch"][:3]]
    rates += ["-"] * (3 - len(rates))
    return [accuracy, _rounded_down(of["after_first_miss"]), *within, *rates]


def _rounded_down(share: float | None) -> str:
    """So that only 1 is shown as 1.000; a dash where nothing was counted."""
    return "-" if share is None else f"{math.floor(1000 * share + 1e-9) / 1000:.3f}"


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
