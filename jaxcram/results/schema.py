"""Validates a run's files before it is shown or decoded, since they may come from anywhere.

Only the values of summary.json, settings.json and the rows that are used are checked.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcram.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_WORD, _TEXT, _COUNT, _NUMBER, _YES_NO = "a word", "a text", "a count", "a number", "true or false"
_RATE = "a number from 1e-37 to 1e38"
_OR_NULL = " or null"
_ACCURACIES = ("tf", "exact", "cached")
_LANE = {
    "kind": _WORD,
    "sample_id": _COUNT,
    "learning_rate": _RATE,
    "seed": _COUNT,
    "horizon": _COUNT,
    "steps": _COUNT,
    "information_gain_bits": _NUMBER + _OR_NULL,
    **{f"{name}_accuracy": _NUMBER + _OR_NULL for name in _ACCURACIES},
    **{f"{name}_first_mismatch": _COUNT + _OR_NULL for name in _ACCURACIES},
}
_LANE_LATER = {  # fields that earlier versions did not write
    **dict.fromkeys(("target_tokens", "decode_tokens", "tf_tokens", "bos_tokens"), _COUNT),
    "stop_reason": _WORD + _OR_NULL,
    **dict.fromkeys(("trajectory_length", "vector_norm", "relative_norm"), _NUMBER + _OR_NULL),
    "trajectory_components": _COUNT + _OR_NULL,
}
_AS_PUBLISHED = {
    "tokens": _COUNT,
    **dict.fromkeys(("information_gain_bits", "trajectory_length"), _NUMBER + _OR_NULL),
    "trajectory_components": _COUNT + _OR_NULL,
}
_EXAMPLE = {
    "sample_id": _COUNT,
    "learning_rate": _RATE,
    "original": _TEXT,
    "decoded": _TEXT,
    "identical": _YES_NO,
}
_EXAMPLE_LATER = {
    **dict.fromkeys(("seed", "target_tokens", "decode_tokens"), _COUNT),
    "first_mismatch": _COUNT + _OR_NULL,
    "agreeing": _TEXT,
}
_SUMMARY = {
    "wall_s": _NUMBER,
    "compile_s": _NUMBER,
    "compile_saved_s": _NUMBER,
    "passes": _COUNT,
    "lane_steps": _COUNT,
    "useful_share": _NUMBER + _OR_NULL,
    "model": _TEXT,
    "mode": _WORD,
}
_SETTINGS = {"model": _TEXT, "dtype": _TEXT, "mode": _WORD}
_MOST_PADDING = 4  # most padded tokens per token of a target
_COUNTS = (
    "stage_seq_len",
    "exact_prefix",
    "num_input_tokens",
    "bucket_tokens",
    "bucket_lanes",
    "steps_taken",
)
_OTHER_COLUMNS = (
    *("target_ids", "embedding", "initialization_embedding"),
    *("exact", "information_gain_bits", "stop_reason"),
)
_MOST_TOKENS = 1 << 20  # of a pass on one device
_WITHOUT = "remove its shard and summary.json, and start the run's command again"
_AGAIN = "remove it and start the run's command again"


def check_files(path: Path, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Checks the values of settings and summary that tables, figures and decoders read.

    Raises:
        UserError: a value is missing or has the wrong type; the message names the file and the value.
    """
    _check_settings(path, settings)
    file = path / "summary.json"
    _check(summary, _SUMMARY, f"{file}:", _AGAIN)
    lanes, example = summary.get("lanes"), summary.get("example")
    if not isinstance(lanes, list) or not lanes:
        raise UserError(f"{file}: lanes should be a non-empty list; {_AGAIN}")
    for i, lane in enumerate(lanes):
        _check_summary_lane(lane, f"{file}: lanes[{i}]", _AGAIN)
    if example is not None:
        _check(example, _EXAMPLE, f"{file}: example", _AGAIN, _EXAMPLE_LATER)


def check_unfinished(path: Path, settings: Mapping[str, Any], lanes: Sequence[Mapping[str, Any]]) -> None:
    """Checks the values of settings and rows of an unfinished run that tables and figures read.

    Raises:
        UserError: a value is missing or has the wrong type.
    """
    _check_settings(path, settings)
    for lane in lanes:
        of_lane = f"sample {lane['sample_id']}, learning rate {lane['learning_rate']}"
        _check_summary_lane(lane, f"{path / 'rows'}: {of_lane}:", _WITHOUT)


def _check_summary_lane(lane: Any, where: str, remedy: str) -> None:
    _check(lane, _LANE, where, remedy, _LANE_LATER)
    if lane.get("as_published") is not None:  # null in full mode; earlier versions did not write it
        _check(lane["as_published"], _AS_PUBLISHED, f"{where} as_published:", remedy)


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    if (program := settings.get("program")) is not None:  # only runs of other programs say it
        within = path / "crams"
        there = f"give {within}, which it made" if within.is_dir() else "give a run of cram"
        raise UserError(f"{path}: a run of {program!r}, not of cram; {there}")
    _check(settings, _SETTINGS, f"{path / 'settings.json'}:", "restore it or take another run")


def check_samples(path: Path, summary: Mapping[str, Any], rows: "pa.Table") -> None:
    """Checks that the summary has every text of the rows.

    Raises:
        UserError: it lacks one; the message names it.
    """
    unknown = set(rows["sample_id"].to_pylist()) - {lane["sample_id"] for lane in summary["lanes"]}
    if unknown:
        raise UserError(
            f"{path / 'rows'}: has rows of sample {min(unknown)}, which summary.json lacks; "
            "remove summary.json and start the run's command again"
        )


def check_lane(where: Path, table: "pa.Table", longest: int) -> None:
    """Checks the rows of a lane before decoding, also so that no absurd size exhausts the device's memory.

    Args:
        where: the folder, for messages.
        table: the rows.
        longest: tokens of the longest target of the run, for which a short one may have been padded.

    Raises:
        UserError: a value is missing or out of range.
    """
    if missing := [name for name in (*_OTHER_COLUMNS, *_COUNTS) if name not in table.column_names]:
        raise UserError(f"{where}: a shard lacks the column {missing[0]}; {_WITHOUT}")
    of_lane = f"{where}: sample {table['sample_id'][0]}, learning rate {table['learning_rate'][0]}"
    target = table["target_ids"][0].as_py()
    if not target or None in target or min(target) < 0:
        raise UserError(f"{of_lane}: target_ids should be token ids; {_WITHOUT}")
    bounds = {
        "stage_seq_len": (1, len(target)),
        "exact_prefix": (0, len(target)),
        "num_input_tokens": (len(target), len(target)),
        "bucket_tokens": (1, _MOST_PADDING * (max(longest, len(target)) + _MOST_PADDING)),
        "bucket_lanes": (1, _MOST_TOKENS),
        "steps_taken": (0, 2**31 - 1),
    }
    for row in table.select(_COUNTS).to_pylist():
        for name, (least, most) in bounds.items():
            if row[name] is None or not least <= row[name] <= most:
                raise UserError(
                    f"{of_lane}: {name} = {row[name]} should be from {least} to {most}; {_WITHOUT}"
                )
        if row["bucket_lanes"] > max(1, _MOST_TOKENS // row["bucket_tokens"]):
            raise UserError(
                f"{of_lane}: bucket_lanes = {row['bucket_lanes']} makes the pass too large; {_WITHOUT}"
            )


def check_embeddings(where: Path, shapes: set[tuple[int, ...]], width: int) -> None:
    """Checks that all embeddings are [K, D] with one K and the model's width D.

    Raises:
        UserError: they have another shape.
    """
    if len(shapes) > 1 or any(len(shape) != 2 or shape[1] != width for shape in shapes):
        raise UserError(
            f"{where}: embeddings of shape {sorted(shapes)} do not fit this model, which needs [K, {width}]; "
            "give the run's own model and shards"
        )


def _check(
    values: Any, fields: Mapping[str, str], where: str, remedy: str, later: Mapping[str, str] | None = None
) -> None:
    """Checks that all `fields` are present, and that they and those of `later` are of the right kind."""
    if not isinstance(values, dict):
        raise UserError(f"{where} should be an object; {remedy}")
    if absent := [name for name in fields if name not in values]:
        raise UserError(f"{where} lacks {absent[0]}; {remedy}")
    for name, kind in {**fields, **(later or {})}.items():
        if name in values and not _is(values[name], kind):
            raise UserError(f"{where} {name} = {values[name]!r} should be {kind}; {remedy}")


def _is(value: Any, kind: str) -> bool:
    if kind.endswith(_OR_NULL):
        return value is None or _is(value, kind.removesuffix(_OR_NULL))
    if kind == _WORD:
        return isinstance(value, str) and value.isidentifier() and len(value) < 40
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _YES_NO:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind == _COUNT:
        return isinstance(value, int) and 0 <= value < 2**63
    if kind == _RATE:
        return 1e-37 <= value <= 1e38
    return abs(value) < 2**63 and math.isfinite(value)
