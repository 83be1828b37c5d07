"""The tables of a run, the notes below them, and its time."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxcram.report.columns import (
    FULL,
    NORMS,
    OF_RATE,
    OF_TEXT,
    OURS,
    PM,
    PROGRESSIVE,
    PUBLISHED,
    TRAJECTORY,
    Column,
    Lane,
    is_empty,
    mismatches,
)

WIDTH = 100  # columns of a terminal
_MOST_NAMED = 4  # lanes named in a note


def table(summary: Mapping[str, Any], *, per_text: bool = False, as_published: bool = False) -> str:
    """The tables of a run: one line per kind of text and learning rate, or one per text.

    The first one is of what came back, the second one of the vectors and their trajectories. Values are means
    over lanes, with the standard deviation if there are several.

    Args:
        summary: of a run, finished or not; `lanes` are those that have ended.
        per_text: one line per text, over all its learning rates and seeds.
        as_published: below each line of the second table one counted as the published tables were; not in
            full mode.
    """
    lanes = summary["lanes"]
    if not lanes:
        return "no lane has ended yet"
    full, groups = summary["mode"] == "full", _groups(lanes, per_text)
    columns = [*(OF_TEXT if per_text else OF_RATE), *(FULL if full else PROGRESSIVE)]
    lines = _aligned(columns, [(group, columns) for group in groups])
    if as_published or _has_vectors(lanes):
        names = (OF_TEXT if per_text else OF_RATE)[:2]
        ours = [*names, *([] if full else TRAJECTORY), *NORMS]
        rows = [(group, ours) for group in groups]
        if as_published and not full:
            ours = [*names, *OURS, *TRAJECTORY, *NORMS]
            rows = [(group, columns) for group in groups for columns in (ours, [*names, *PUBLISHED])]
        lines += ["", *_aligned(ours, rows)]
    return "\n".join(lines)


def _groups(lanes: Sequence[Lane], per_text: bool) -> list[list[Lane]]:
    """The lanes of each line, in the order of the lines."""
    groups: dict[tuple[Any, ...], list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: (lane["kind"] != "story", lane["kind"])):
        key = (
            (lane["sample_id"],)
            if per_text
            else (lane["kind"] != "story", lane["kind"], lane["learning_rate"])
        )
        groups.setdefault(key, []).append(lane)
    return [groups[key] for key in sorted(groups)]


def _aligned(header: Sequence[Column], rows: Iterable[tuple[Sequence[Lane], Sequence[Column]]]) -> list[str]:
    """The names of the columns of `header`, and a line per row: the cells of its own columns of its lanes."""
    lines = [[name for name, _ in header]]
    lines += [[cell(lanes) for _, cell in columns] for lanes, columns in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    gap = "  " if sum(widths) + 2 * len(widths) - 2 <= WIDTH else " "
    return [
        gap.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def notes(summary: Mapping[str, Any], *, as_published: bool = False) -> list[str]:
    """Lines below the tables: the meaning of columns, why lanes ended, and which lanes to look at."""
    lines = _notes(summary, as_published)
    return [line for note in lines for line in textwrap.wrap(note, WIDTH, subsequent_indent="    ")]


def _notes(summary: Mapping[str, Any], as_published: bool) -> list[str]:
    lanes = summary["lanes"]
    if not lanes:
        return []
    full = summary["mode"] == "full"
    lines = list(_LEGEND_FULL if full else _LEGEND)
    if as_published or _has_vectors(lanes):
        lines += [] if full else [_LEGEND_TRAJECTORY]
        lines += [_LEGEND_NORM, *([_LEGEND_PUBLISHED] if as_published and not full else [])]
    stops = Counter(reason for lane in lanes if (reason := lane.get("stop_reason")))
    if stops:
        lines.append("ended by: " + ", ".join(f"{reason} {count}" for reason, count in stops.most_common()))
    empty = [lane for lane in lanes if is_empty(lane)]
    if empty:
        lines.append(f"no text was recovered from {_named(empty, len(lanes))}")
    differing = [lane for lane in lanes if not full and not is_empty(lane) and mismatches([lane])]
    if differing:
        lines.append(f"decoders differ from the exact prefix in {_named(differing, len(lanes), mismatches)}")
    if unknown := [lane for lane in lanes if lane["information_gain_bits"] is None]:
        lines.append(f"gain is not finite, so left out of the mean: {_named(unknown, len(lanes))}")
    return lines


def _has_vectors(lanes: Sequence[Lane]) -> bool:
    """Whether any lane tells of its vector or trajectory; in earlier versions none did."""
    return any(lane.get(name) is not None for lane in lanes for name in ("vector_norm", "trajectory_length"))


def speed(summary: Mapping[str, Any]) -> str:
    """One line: time of the run and of compilation, steps, passes, and the useful share of the tokens."""
    line = f"{summary['wall_s']:.0f} s, of which {summary['compile_s']:.0f} s compilation"
    if summary["compile_saved_s"] >= 1:
        line += f" (the compilation cache saved {summary['compile_saved_s']:.0f} s)"
    if summary["useful_share"] is not None:
        line += f"; {summary['lane_steps']} lane steps in {summary['passes']} passes, "
        line += f"useful share {summary['useful_share']:.2f}"
    return line


def lane_name(lane: Lane) -> str:
    """The name of a lane in notes and headings."""
    seed = f", seed {lane['seed']}" if lane.get("seed") else ""
    return f"sample {lane['sample_id']}, learning rate {lane['learning_rate']:g}{seed}"


def _named(lanes: Sequence[Lane], count: int, detail: Callable[[Sequence[Lane]], str] | None = None) -> str:
    """Such as `2 of 8 lanes: sample 0, learning rate 0.1; ...`."""
    named = [lane_name(lane) + (f" ({detail([lane])})" if detail else "") for lane in lanes[:_MOST_NAMED]]
    if len(lanes) > _MOST_NAMED:
        named.append(f"and {len(lanes) - _MOST_NAMED} more")
    return f"{len(lanes)} of {count} lanes: {'; '.join(named)}"


_LEGEND = (
    f"horizon: tokens of the longest exact prefix; gain: bits, without token 0; mean{PM}std over lanes",
    "TF, exact, cached: share of that prefix that is recovered, 0 for lanes without any text (empty)",
)
_LEGEND_FULL = (
    "TF, exact, cached: share of the whole target that is recovered; whole: lanes with an exact target",
    f"horizon: tokens exact from the start; gain: bits, without token 0; mean{PM}std over lanes",
)
_LEGEND_TRAJECTORY = (
    "trajectory: length over the exact stages; PCA 99%: principal components with 99% of its variance"
)
_LEGEND_NORM = "norm: of the resulting vector; rel. norm: over the mean norm of the model's token embeddings"
_LEGEND_PUBLISHED = (
    "as published: with the failed stage, for comparison with the tables of Tarasov et al. 2026"
)
