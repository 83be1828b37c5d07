"""The columns of a run's tables: their names, and their cells from the lanes of a line."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Lane = Mapping[str, Any]
Column = tuple[str, Callable[[Sequence[Lane]], str]]

PM = "\N{PLUS-MINUS SIGN}"


def is_empty(lane: Lane) -> bool:
    """Whether no text was recovered: no token, or only BOS; in full mode correct later tokens count too."""
    recovered, bos = lane["horizon"], lane.get("bos_tokens", 0)
    if not _is_of_prefix(lane) and lane["exact_accuracy"] is not None:
        recovered = round(lane["exact_accuracy"] * lane["decode_tokens"])
    return recovered <= bos


def spread_cell(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean and standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{round(statistics.fmean(known), digits) + 0.0:.{digits}f}"  # no -0.0
    return f"{mean}{PM}{statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean


def _mean(name: str, digits: int = 1) -> Callable[[Sequence[Lane]], str]:
    return lambda lanes: spread_cell([lane.get(name) for lane in lanes], digits)


def _published(name: str) -> Callable[[Sequence[Lane]], str]:
    """Of the published count of each lane; `_stored` if it needs the trajectory."""

    def cell(lanes: Sequence[Lane]) -> str:
        return spread_cell([(lane.get("as_published") or {}).get(name) for lane in lanes])

    return _stored(cell) if name.startswith("trajectory") else cell


def _stored(cell: Callable[[Sequence[Lane]], str]) -> Callable[[Sequence[Lane]], str]:
    """The cell of a column that needs the embeddings of all stages."""

    def stored(lanes: Sequence[Lane]) -> str:
        return (
            cell(lanes) if any(lane.get("trajectory_length") is not None for lane in lanes) else "not stored"
        )

    return stored


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


def mismatches(lanes: Sequence[Lane]) -> str:
    """The first wrong token of each greedy decoder, such as `exact:3 cached:1`."""
    found = []
    for name in ("exact", "cached"):
        wrong = [at for lane in lanes if (at := lane[f"{name}_first_mismatch"]) is not None]
        found += [f"{name}:{min(wrong)}"] if wrong else []
    return " ".join(found)


def _mismatch(lanes: Sequence[Lane]) -> str:
    decoded = any(lane["exact_accuracy"] is not None for lane in lanes)
    return mismatches(lanes) or ("none" if decoded else "-")


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
OF_RATE: tuple[Column, ...] = (
    ("texts", lambda lanes: lanes[0]["kind"]),
    ("lr", lambda lanes: f"{lanes[0]['learning_rate']:g}"),
    _COUNT,
)
OF_TEXT: tuple[Column, ...] = (
    ("text", lambda lanes: str(lanes[0]["sample_id"])),
    ("kind", lambda lanes: lanes[0]["kind"]),
    _COUNT,
    ("best lr", _best_rate),
)
PROGRESSIVE: tuple[Column, ...] = (
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
FULL: tuple[Column, ...] = (
    ("target", _target),
    ("right (TF)", lambda lanes: spread_cell(map(_right, lanes))),
    ("TF", _share("tf")),
    ("exact", _share("exact")),
    ("cached", _share("cached")),
    ("whole", _whole),
    ("horizon", _mean("horizon")),
    ("gain", _mean("information_gain_bits")),
    ("steps", _mean("steps", 0)),
)
TRAJECTORY: tuple[Column, ...] = (
    ("trajectory", _stored(_mean("trajectory_length"))),
    ("PCA 99%", _stored(_mean("trajectory_components"))),
)
NORMS: tuple[Column, ...] = (
    ("norm", _mean("vector_norm", 2)),
    ("rel. norm", _mean("relative_norm", 2)),
)
OURS: tuple[Column, ...] = (
    ("counted", lambda lanes: "ours"),
    ("tokens", _mean("horizon")),
    ("gain", _mean("information_gain_bits")),
)
PUBLISHED: tuple[Column, ...] = (
    ("counted", lambda lanes: "as published"),
    *(("tokens", _published("tokens")), ("gain", _published("information_gain_bits"))),
    ("trajectory", _published("trajectory_length")),
    ("PCA 99%", _published("trajectory_components")),
    *((name, lambda lanes: "") for name, _ in NORMS),
)
