"""The table of an evaluation of multiple choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_NAMES = ("sum", "token", "character")


def evaluation(summary: Mapping[str, Any]) -> str:
    """Accuracies of every score under every normalisation, with 95% intervals; then what they come to.

    Args:
        summary: of an evaluation (see `jaxcram.evaluate.summary.summarise`).
    """
    items, converged = summary["items"], summary["converged"]
    lines = [
        f"{summary['task']}: {items} items, {converged} converged (Conv {100 * converged / items:.1f}%)",
        "",
    ]
    header = ["accuracy", *(f"by {name}" for name in _NAMES), "by token, converged"]
    rows = [header]
    for score, by in summary["accuracies"].items():
        cells = [with_interval(by[name]["accuracy"], by[name]["interval"]) for name in _NAMES]
        cells.append(with_interval(by["token"]["accuracy_converged"], by["token"]["interval_converged"]))
        rows.append([score, *cells])
    lines += aligned(rows)
    lines += [
        "",
        "crammed minus base, by token:  "
        + with_interval(summary["difference"], summary["difference_interval"], sign=True)
        + " on all items, "
        + with_interval(summary["difference_converged"], summary["difference_converged_interval"], sign=True)
        + " on the converged ones",
        "in brackets 95% intervals (bootstrap over items; differences are paired)",
        "base: the text alone; memory: the embedding before it; instead: it in place of the context",
        "ending: only the ending is scored; edge: also the first token, which the embedding predicts",
    ]
    return "\n".join(lines)


def generation(summary: Mapping[str, Any]) -> str:
    """Accuracies and shares of valid answers, generated after an embedding and after plain text.

    Args:
        summary: of a generative evaluation (see `jaxcram.evaluate.generative_summary.summarise`).
    """
    first = f"{summary['task']}, generative, {summary['generative']}: {summary['items']} items"
    if converged := summary.get("converged") is not None:
        first += f", of which the crammed text converged for {summary['converged']}"
    rows = [["", "accuracy", "valid"]]
    columns = {"plain text": "base_", summary["generative"]: ""}
    if summary["generative"] == "none":
        columns = {"plain text": ""}
    for name, prefix in columns.items():
        cells = [f"{prefix}accuracy", f"{prefix}valid_share"]
        rows.append([name, *(with_interval(summary[x], summary[f"{x}_interval"]) for x in cells)])
    if converged:
        cells = ["accuracy_converged", "valid_share_converged"]
        rows.append(["... converged", *(with_interval(summary[x], summary[f"{x}_interval"]) for x in cells)])
    lines = [first, "", *aligned(rows)]
    if len(columns) > 1:
        change = with_interval(summary["difference"], summary["difference_interval"], sign=True)
        lines += ["", f"{summary['generative']} minus plain text: {change}"]
    return "\n".join(
        [
            *lines,
            "in brackets 95% intervals (bootstrap over items; the difference is paired)",
            "valid: a letter from A to D is generated within 5 tokens; an answer that is not valid is wrong",
        ]
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def with_interval(value: float | None, interval: list[float | None], *, sign: bool = False) -> str:
    """Such as `0.531 [0.41, 0.66]`; a dash where nothing was counted."""
    if value is None or math.isnan(value):
        return "-"
    low, high = interval
    form = "+.3f" if sign else ".3f"
    return f"{value:{form}} [{low:.2f}, {high:.2f}]"
