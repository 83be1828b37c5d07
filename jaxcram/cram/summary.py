"""What a run has come to, as summary.json has it, or as far as its finished lanes tell."""

from __future__ import annotations

import bisect
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxcram
from jaxcram.cram import verify
from jaxcram.cram.rows import Outcome, Row
from jaxcram.results.reading import load_log, load_rows
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_OF_EXAMPLE = ("sample_id", "learning_rate", "seed", "decode_tokens", "target_tokens")
_SHOWN = 40  # characters before the first difference
ToText = Callable[[Sequence[int]], str]


def of_lanes(
    outcomes: Sequence[Outcome],
    decoded: Mapping[int, Mapping[str, np.ndarray]],
    samples: Sequence[Sample],
    kinds: Mapping[int, str],
    to_text: ToText,
) -> dict[str, Any]:
    """`lanes` and `example` of summary.json.

    Args:
        outcomes: of all lanes.
        decoded: by position in `outcomes`, see `verify.decode_outcomes`.
        samples: the targets; kinds: what each text is, by sample id.
        to_text: token ids to text.
    """
    by_id = {sample.sample_id: sample for sample in samples}
    bos = {sample.sample_id: bos_tokens(sample.tokens, to_text) for sample in samples}
    lanes = [
        {"kind": kinds[sample_id]}
        | verify.lane_summary(outcome, decoded.get(i), by_id[sample_id].tokens)
        | {"bos_tokens": bos[sample_id]}
        for i, outcome in enumerate(outcomes)
        for sample_id in [outcome.job.sample_id]
    ]
    candidates = [i for i in decoded if outcomes[i].decode_tokens > bos[outcomes[i].job.sample_id]]
    example = None
    if candidates:
        best = max(candidates, key=lambda i: (outcomes[i].horizon, lanes[i]["exact_accuracy"]))
        outcome, sample = outcomes[best], by_id[outcomes[best].job.sample_id]
        target = sample.tokens[: outcome.decode_tokens]
        example = {
            **{name: lanes[best][name] for name in _OF_EXAMPLE},
            **compare(outcome, target, decoded[best]["exact"], sample.text, to_text),
        }
        if outcome.decode_tokens == outcome.target_tokens:  # where cut, `text` is what the tokens decode to
            example["identical"] = example["identical"] and sample.restored
    return {"lanes": lanes, "example": example}


def so_far(path: Path, mode: str, kind_of: Callable[[int], str]) -> dict[str, Any]:
    """`lanes` and `example` of a run that has no summary yet, from the rows of the lanes that have ended.

    Nothing was decoded back, so accuracies are null. `lanes_in_all` is how many lanes the run has, null
    where its log does not tell.

    Args:
        path: the run directory.
        mode: of the procedure.
        kind_of: what a text is, by sample id.

    Raises:
        UserError: the path is no run, or a shard is damaged.
    """
    lanes: dict[Job, list[Row]] = {}
    for row in load_rows(path, Outcome.COLUMNS).to_pylist():
        lanes.setdefault(Job(row["sample_id"], row["learning_rate"], row["seed"]), []).append(row)
    outcomes = [Outcome.of(rows, mode) for rows in lanes.values()]
    return {
        "lanes": [
            {"kind": kind_of(outcome.job.sample_id)} | verify.lane_summary(outcome, None, None)
            for outcome in outcomes
        ],
        "lanes_in_all": _lanes_in_all(load_log(path)),
        "example": None,
    }


def _lanes_in_all(events: list[dict[str, Any]]) -> int | None:
    """As the last start said; earlier versions said only what was missing, which at first is everything."""
    starts = [event for event in events if event.get("event") == "start"]
    if not starts:
        return None
    count = starts[-1].get("lanes_in_all", starts[0].get("lanes"))
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def bos_tokens(tokens: np.ndarray, to_text: ToText) -> int:
    """How many tokens at the beginning of a target are no text, as BOS is."""
    ids = tokens.tolist()
    return bisect.bisect_left(range(1, len(ids) + 1), 1, key=lambda n: int(bool(to_text(ids[:n]))))


def gives_back(text: str, decoded: str, whole: bool) -> bool:
    """Whether a decoded text is the text, or its beginning where it is not `whole`.

    Spaces at either end do not count, as some tokenizers add or drop them, and neither does a character at
    the end whose last byte is yet to come.
    """
    text, decoded = text.strip(), decoded.strip().rstrip(_REPLACEMENT)
    return bool(decoded) and (text.rstrip(_REPLACEMENT) == decoded if whole else text.startswith(decoded))


def compare(
    outcome: Outcome, target: np.ndarray, back: np.ndarray, text: str | None, to_text: ToText
) -> dict[str, Any]:
    """What a lane was to reproduce and what came back, as text.

    Args:
        outcome: of the lane.
        target, back: token ids that were asked for, and that came back, `decode_tokens` of each.
        text: the text of the whole target, where it is known.
        to_text: token ids to text.

    Returns:
        "original" and "decoded" text; "first_mismatch", the index of the first wrong token or None;
        "agreeing", the end of the text before it; "identical", whether tokens and texts are the same, and
        there is a text.
    """
    wrong = np.flatnonzero(back != target)
    first = int(wrong[0]) if len(wrong) else None
    asked, decoded = to_text(target.tolist()), to_text(back.tolist())
    whole = outcome.decode_tokens == outcome.target_tokens
    if text is not None and not gives_back(text, asked, whole):
        asked = text  # the tokens do not give back what was asked for
    return {
        "original": asked,
        "decoded": decoded,
        "first_mismatch": first,
        "agreeing": "" if first is None else to_text(target[:first].tolist())[-_SHOWN:],
        "identical": first is None and gives_back(asked if text is None else text, decoded, whole),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        "jaxcram": jaxcram.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def devices() -> list[str]:
    """What the devices are, one by one."""
    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
