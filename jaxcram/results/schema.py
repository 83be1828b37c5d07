"""What a finished run has to say before it is shown or decoded: its files may have come from anywhere.

Only what is read of summary.json, settings.json and the rows is asked for; whatever else is there stays.
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
_LANE_LATER = {  # what earlier versions did not write
    **dict.fromkeys(("target_tokens", "decode_tokens", "tf_tokens", "bos_tokens"), _COUNT),
    "stop_reason": _WORD + _OR_NULL,
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
_MOST_PADDING = 4  # padded tokens per token of a target, and a few
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
    """Refuses settings and a summary without the values that tables, figures and decoders read.

    Raises:
        UserError: a value is missing or of another type; it names the file and the value.
    """
    _check(settings, _SETTINGS, f"{path / 'settings.json'}:", "restore it or take another run")
    file = path / "summary.json"
    _check(summary, _SUMMARY, f"{file}:", _AGAIN)
    lanes, example = summary.get("lanes"), summary.get("example")
    if not isinstance(lanes, list) or not lanes:
        raise UserError(f"{file}: lanes should be a list of at least one lane; {_AGAIN}")
    for i, lane in enumerate(lanes):
        _check(lane, _LANE, f"{file}: lanes[{i}]", _AGAIN, _LANE_LATER)
    if example is not None:
        _check(example, _EXAMPLE, f"{file}: example", _AGAIN, _EXAMPLE_LATER)


def check_unfinished(path: Path, settings: Mapping[str, Any], lanes: Sequence[Mapping[str, Any]]) -> None:
    """Refuses settings and rows of a run under way without the values that tables and figures read.

    Raises:
        UserError: a value is missing or of another type.
    """
    _check(settings, _SETTINGS, f"{path / 'settings.json'}:", "restore it or take another run")
    for lane in lanes:
        of_lane = f"sample {lane['sample_id']}, learning rate {lane['learning_rate']}"
        _check(lane, _LANE, f"{path / 'rows'}: {of_lane}:", _WITHOUT, _LANE_LATER)


def check_samples(path: Path, summary: Mapping[str, Any], rows: "pa.Table") -> None:
    """Refuses rows of texts that the summary does not have.

    Raises:
        UserError: there are such rows; it names the text.
    """
    unknown = set(rows["sample_id"].to_pylist()) - {lane["sample_id"] for lane in summary["lanes"]}
    if unknown:
        raise UserError(
            f"{path / 'rows'}: has rows of sample {min(unknown)}, which summary.json has not; "
            "remove summary.json and start the run's command again"
        )


def check_lane(where: Path, table: "pa.Table") -> None:
    """Refuses the rows of a lane from which no text could be decoded, or only with memory beyond measure.

    Raises:
        UserError: a value is missing or beyond what a run writes.
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
        "bucket_tokens": (1, _MOST_PADDING * (len(target) + _MOST_PADDING)),
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
                f"{of_lane}: bucket_lanes = {row['bucket_lanes']} makes too large a pass; {_WITHOUT}"
            )


def check_embeddings(where: Path, shapes: set[tuple[int, ...]], width: int) -> None:
    """Refuses embeddings that are not all [K, D] of one K and the model's width D.

    Raises:
        UserError: they are of another shape.
    """
    if len(shapes) > 1 or any(len(shape) != 2 or shape[1] != width for shape in shapes):
        raise UserError(
            f"{where}: embeddings of {sorted(shapes)} are not of this model, which takes [K, {width}]; "
            "give the run's own model and shards"
        )


def _check(
    values: Any, fields: Mapping[str, str], where: str, remedy: str, later: Mapping[str, str] | None = None
) -> None:
    """Refuses values without all `fields`, or with one of them, or of `later`, that is of another kind."""
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
