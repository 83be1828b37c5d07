"""The table of `jaxcram analyse`: a line a measure, a column a run and learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcram.report.columns import PM

Lines = list[tuple[str, str]]

ANALYSIS_NOTES = f"""\
{PM}: mean and standard deviation over lanes; in brackets 95% intervals (bootstrap over texts)
as published: with the stage that failed, as the tables of Tarasov et al. 2026 were counted
surprisal: Spearman correlation of a token's surprisal under the model alone and its optimiser steps;
    stages that took no step here took one in the published rows, the lowest rank in both, so published
    figures compare with the lines that have these stages
capacity: surprisal of the horizon's tokens in bits, without token 0
solutions: medians over prefixes of texts; at all rates: of the prefixes that every learning rate made
    exact; the published figures are of other prefixes, 24 lengths of each text with equal ratios"""


def columns_side_by_side(header: Mapping[str, Sequence[str]], blocks: Mapping[str, Sequence[Lines]]) -> str:
    """Labelled lines of several columns, aligned.

    Args:
        header: cells by label, above all blocks.
        blocks: by title, the lines of each column; a label that a column does not have is "-" there.
    """
    rows = [[label, *cells] for label, cells in header.items()]
    for title, columns in blocks.items():
        rows += [[], [title]]
        by_label = [dict(lines) for lines in columns]
        labels = dict.fromkeys(label for cells in by_label for label in cells)
        rows += [[f"  {label}", *(cells.get(label, "-") for cells in by_label)] for label in labels]
    full = [row for row in rows if len(row) > 1]
    widths = [max(map(len, cells)) for cells in zip(*full, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    )


def mean_std(spread: Mapping[str, Any], digits: int = 1) -> str:
    """A `Spread` as mean and standard deviation."""
    if spread["mean"] is None:
        return "-"
    mean = f"{spread['mean']:.{digits}f}"
    return mean if spread["std"] is None else f"{mean}{PM}{spread['std']:.{digits}f}"


def mean_within(spread: Mapping[str, Any], digits: int = 1) -> str:
    """A `Spread` as mean and standard deviation, with the interval of the mean."""
    return mean_std(spread, digits) + _ends(spread["interval"], f".{digits}f")


def number(value: float | None, form: str = ".2f") -> str:
    """A value; `-` where there is none."""
    return "-" if value is None else f"{value:{form}}"


def trajectory_lines(summary: Mapping[str, Any]) -> Lines:
    """Horizon, gain and trajectory, ours and as published."""
    published = summary["as_published"]
    lines = [("lanes", str(summary["lanes"]))]
    for label, name in (
        ("horizon (tokens)", "horizon"),
        ("information gain (bits)", "information_gain_bits"),
        ("trajectory length", "trajectory_length"),
        ("PCA 99% (components)", "pca99"),
    ):
        lines += [(label, mean_std(summary[name])), (f"{label}, as published", mean_std(published[name]))]
    return lines


def surprisal_lines(summary: Mapping[str, Any]) -> Lines:
    """Rank correlations over all stages, then over those that took a step."""
    lines = _correlation_lines(summary, "")
    return lines + _correlation_lines(summary["without_zero_steps"], ", without zero steps")


def _correlation_lines(summary: Mapping[str, Any], which: str) -> Lines:
    return [
        (f"stages{which}", str(summary["stages"])),
        (f"Spearman{which}", within(summary["spearman"], summary["interval"])),
        (f"given the position{which}", number(summary["partial"])),
        (f"per lane{which}", mean_std(summary["lanes"], 2)),
        (f"lanes above 0{which}", number(summary["positive_share"], ".0%")),
    ]


def capacity_lines(summary: Mapping[str, Any]) -> Lines:
    """Bits of the horizon, bits per step, and gain against horizon."""
    line = summary["gain_by_horizon"]
    return [
        ("surprisal of the horizon (bits)", mean_std(summary["horizon_bits"])),
        ("bits per step", mean_std(summary["bits_per_step"], 3)),
        ("gain over surprisal", mean_std(summary["gain_share"], 2)),
        ("gain per token of horizon (bits)", number(line and line["slope"])),
        ("R\N{SUPERSCRIPT TWO} of gain against horizon", number(line and line["r2"])),
    ]


def reconstruction_lines(summary: Mapping[str, Any]) -> Lines:
    """What comes back of embeddings rebuilt from the components that have 99% of the variance."""
    at_99, nearly = summary.get("pca99", {}), summary.get("nearly", {})
    return [
        ("components with 99%", number(at_99.get("components"), ".1f")),
        *(
            (label, within(at_99.get(name), at_99.get(f"{name}_interval")))
            for label, name in (
                ("accuracy there, teacher-forced", "tf_accuracy"),
                ("accuracy there, greedy", "exact_accuracy"),
                ("token 0 wrong there (share of lanes)", "first_wrong"),
            )
        ),
        ("components for accuracy 0.98", within(nearly.get("components"), nearly.get("interval"), ".1f")),
    ]


def landscape_lines(summary: Mapping[str, Any]) -> Lines:
    """The basins of the first and the last stage, and how they shrink."""
    shares = summary.get("basin_share", [None])
    decades = within(summary.get("decades"), summary.get("interval"))
    return [
        ("basin of the first stage (share)", number(shares[0], ".4f")),
        ("basin of the last stage (share)", number(shares[-1], ".4f")),
        ("decades from first to last", decades),
    ]


def within(value: float | None, interval: Sequence[float] | None, form: str = ".2f") -> str:
    """A value with its interval, if it has one."""
    return number(value, form) + _ends(interval, form)


def _ends(interval: Sequence[float] | None, form: str) -> str:
    return "" if interval is None else f" [{number(interval[0], form)}, {number(interval[1], form)}]"
