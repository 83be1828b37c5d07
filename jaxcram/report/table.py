"""The table of a run, the notes below it, and its time."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Lane = Mapping[str, Any]
Column = tuple[str, Callable[[Sequence[Lane]], str]]

WIDTH = 100  # columns of a terminal
_PM = "\N{PLUS-MINUS SIGN}"
_MOST_NAMED = 4  # lanes named in a note


def table(summary: Mapping[str, Any], *, per_text: bool = False) -> str:
    """The table of a run: one line per kind of text and learning rate, or one per text.

    Values are means over lanes, with the standard deviation if there are several.

    Args:
        summary: of a run, finished or not; `lanes` are those that have ended.
        per_text: one line per text, over all its learning rates and seeds.
    """
    lanes = summary["lanes"]
    if not lanes:
        return "no lane has ended yet"
    groups: dict[tuple[Any, ...], list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: (lane["kind"] != "story", lane["kind"])):
        key = (
            (lane["sample_id"],)
            if per_text
            else (lane["kind"] != "story", lane["kind"], lane["learning_rate"])
        )
        groups.setdefault(key, []).append(lane)
    columns = [
        *(_OF_TEXT if per_text else _OF_RATE),
        *(_FULL if summary["mode"] == "full" else _PROGRESSIVE),
    ]
    lines = [[name for name, _ in columns]]
    lines += [[cell(groups[key]) for _, cell in columns] for key in sorted(groups)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    gap = "  " if sum(widths) + 2 * len(widths) - 2 <= WIDTH else " "
    return "\n".join(
        gap.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Lines below the table: the meaning of columns, why lanes ended, and which lanes to look at."""
    return [line for note in _notes(summary) for line in textwrap.wrap(note, WIDTH, subsequent_indent="    ")]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    lanes = summary["lanes"]
    if not lanes:
        return []
    full = summary["mode"] == "full"
    lines = list(_LEGEND_FULL if full else _LEGEND)
    stops = Counter(reason for lane in lanes if (reason := lane.get("stop_reason")))
    if stops:
        lines.append("ended by: " + ", ".join(f"{reason} {count}" for reason, count in stops.most_common()))
    empty = [lane for lane in lanes if is_empty(lane)]
    if empty:
        lines.append(f"no text was recovered from {_named(empty, len(lanes))}")
    differing = [lane for lane in lanes if not full and not is_empty(lane) and _mismatches([lane])]
    if differing:
        lines.append(f"decoders differ from the exact prefix in {_named(differing, len(lanes), _mismatches)}")
    if unknown := [lane for lane in lanes if lane["information_gain_bits"] is None]:
        lines.append(f"gain is not finite, so left out of the mean: {_named(unknown, len(lanes))}")
    return lines


def speed(summary: Mapping[str, Any]) -> str:
    """One line: time of the run and of compilation, steps, passes, and the useful share of the tokens."""
    line = f"{summary['wall_s']:.0f} s, of which {summary['compile_s']:.0f} s compilation"
    if summary["compile_saved_s"] >= 1:
        line += f" (the compilation cache saved {summary['compile_saved_s']:.0f} s)"
    if summary["useful_share"] is not None:
        line += f"; {summary['lane_steps']} lane steps in {summary['passes']} passes, "
        line += f"useful share {summary['useful_share']:.2f}"
    return line


def is_empty(lane: Lane) -> bool:
    """Whether no text was recovered: no token, or only BOS; in full mode correct later tokens count too."""
    recovered, bos = lane["horizon"], lane.get("bos_tokens", 0)
    if not _is_of_prefix(lane) and lane["exact_accuracy"] is not None:
        recovered = round(lane["exact_accuracy"] * lane["decode_tokens"])
    return recovered <= bos


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


def _spread(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean and standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{round(statistics.fmean(known), digits) + 0.0:.{digits}f}"  # no -0.0
    return f"{mean}{_PM}{statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean


def _mean(name: str, digits: int = 1) -> Callable[[Sequence[Lane]], str]:
    return lambda lanes: _spread([lane[name] for lane in lanes], digits)


def _share(name: str) -> Callable[[Sequence[Lane]], str]:
    """Mean accuracy, 0 for empty lanes. Rounded down, so that only 1 is shown as 1.000."""

    def cell(lanes: Sequence[Lane]) -> str:
        lost = [_is_of_prefix(lane) and is_empty(lane) for lane in lanes]
        accuracies = [lane[f"{name}_accuracy"] for lane in lanes]
        values = [0.0 if none else share for none, share in zip(lost, accuracies, strict=True)]
        if any(value is None for value in values):
            return "-"
        return f"{math.floor(1000 * statistics.fmean(values) + 1e-9) / 1000:.3f}"

    return cell


def _is_of_prefix(lane: Lane) -> bool:
    """Whether a lane's accuracies are over its exact prefix, not over the whole target."""
    return lane.get("decode_tokens", lane["horizon"]) == lane["horizon"]


def _mismatches(lanes: Sequence[Lane]) -> str:
    """The first wrong token of each greedy decoder, such as `exact:3 cached:1`."""
    found = []
    for name in ("exact", "cached"):
        wrong = [at for lane in lanes if (at := lane[f"{name}_first_mismatch"]) is not None]
        found += [f"{name}:{min(wrong)}"] if wrong else []
    return " ".join(found)


def _mismatch(lanes: Sequence[Lane]) -> str:
    decoded = any(lane["exact_accuracy"] is not None for lane in lanes)
    return _mismatches(lanes) or ("none" if decoded else "-")


def _target(lanes: Sequence[Lane]) -> str:
    lengths = [lane["target_tokens"] for lane in lanes if "target_tokens" in lane]
    if not lengths:
        return "-"
    mean = statistics.fmean(lengths)
    return f"{mean:.0f}" if len(set(lengths)) == 1 else f"{mean:.1f}"


def _right(lane: Lane) -> float | None:
    """Target tokens that were correct under teacher forcing."""
    if "tf_tokens" in lane:
        return lane["tf_tokens"]
    accuracy = lane["tf_accuracy"]
    return None if accuracy is None or "decode_tokens" not in lane else accuracy * lane["decode_tokens"]


def _whole(lanes: Sequence[Lane]) -> str:
    """Number of lanes whose whole target is exact, such as `3/8`."""
    whole = sum(lane["horizon"] == lane.get("target_tokens") for lane in lanes)
    return f"{whole}/{len(lanes)}"


def _best_rate(lanes: Sequence[Lane]) -> str:
    """The learning rate with the longest exact prefix; of several, the smallest."""
    best = max(lane["horizon"] for lane in lanes)
    if not any(lane["horizon"] == best and not is_empty(lane) for lane in lanes):
        return "-"
    return f"{min(lane['learning_rate'] for lane in lanes if lane['horizon'] == best):g}"


_COUNT: Column = ("lanes", lambda lanes: str(len(lanes)))
_OF_RATE: tuple[Column, ...] = (
    ("texts", lambda lanes: lanes[0]["kind"]),
    ("lr", lambda lanes: f"{lanes[0]['learning_rate']:g}"),
    _COUNT,
)
_OF_TEXT: tuple[Column, ...] = (
    ("text", lambda lanes: str(lanes[0]["sample_id"])),
    ("kind", lambda lanes: lanes[0]["kind"]),
    _COUNT,
    ("best lr", _best_rate),
)
_PROGRESSIVE: tuple[Column, ...] = (
    ("empty", lambda lanes: str(sum(map(is_empty, lanes)))),
    ("target", _target),
    ("horizon", _mean("horizon")),
    ("gain", _mean("information_gain_bits")),
    ("steps", _mean("steps", 0)),
    ("TF", _share("tf")),
    ("exact", _share("exact")),
    ("cached", _share("cached")),
    ("mismatch", _mismatch),
)
_FULL: tuple[Column, ...] = (
    ("target", _target),
    ("right (TF)", lambda lanes: _spread(map(_right, lanes))),
    ("TF", _share("tf")),
    ("exact", _share("exact")),
    ("cached", _share("cached")),
    ("whole", _whole),
    ("horizon", _mean("horizon")),
    ("gain", _mean("information_gain_bits")),
    ("steps", _mean("steps", 0)),
)
_LEGEND = (
    f"horizon: tokens of the longest exact prefix; gain: bits, without token 0; mean{_PM}std over lanes",
    "TF, exact, cached: share of that prefix that is recovered, 0 for lanes without any text (empty)",
)
_LEGEND_FULL = (
    "TF, exact, cached: share of the whole target that is recovered; whole: lanes with an exact target",
    f"horizon: tokens exact from the start; gain: bits, without token 0; mean{_PM}std over lanes",
)
