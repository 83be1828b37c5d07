"""The example of a run: one lane's original beside its decoded text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcram.errors import printable
from jaxcram.report.table import lane_name


def sample(summary: Mapping[str, Any]) -> list[str]:
    """Lines that show the run's example, or say why there is none."""
    example = summary["example"]
    if example is None:
        return [_without(summary)]
    if "target_tokens" not in example:  # from an earlier version: take it from the example's lane
        example = {**_lane_of(example, summary["lanes"]), **example}
    lines = [f"{lane_name(example)}, {_extent(example, summary['mode'])}:"]
    lines += [f"original: {printable(example['original'])}", f"decoded:  {printable(example['decoded'])}"]
    return [*lines, _verdict(example)]


def _lane_of(example: Mapping[str, Any], lanes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The lengths of an example's lane."""
    keys, lengths = ("sample_id", "learning_rate", "seed"), ("target_tokens", "decode_tokens")
    for lane in lanes:
        if all(lane[key] == example.get(key) for key in keys):
            return {name: lane[name] for name in lengths if name in lane}
    return {}


def _without(summary: Mapping[str, Any]) -> str:
    lanes = summary["lanes"]
    if any(lane["horizon"] > lane.get("bos_tokens", 0) for lane in lanes):
        return "no example: " + (
            "lanes are decoded when the run is finished"
            if summary.get("lanes_in_all") != len(lanes) and "lanes_in_all" in summary
            else "the run stored no embeddings (trajectory = none), so nothing was decoded"
        )
    return "no example: no text was recovered from any lane"


def _extent(example: Mapping[str, Any], mode: str) -> str:
    """The part of the target that is shown."""
    if "target_tokens" not in example or "decode_tokens" not in example:
        return "the whole target" if mode == "full" else "up to its horizon"
    target, tokens = example["target_tokens"], example["decode_tokens"]
    if tokens == target:
        return f"the whole target of {target} tokens"
    return f"up to its horizon, {tokens} of {target} tokens"


def _verdict(example: Mapping[str, Any]) -> str:
    if example["identical"]:
        return "identical"
    at = example.get("first_mismatch")
    if at is not None:
        after = (
            f"after {printable(example['agreeing'], keep='')!r}"
            if example.get("agreeing")
            else "at its start"
        )
        return f"NOT identical: the first difference is token {at} of {example['decode_tokens']}, {after}"
    if "first_mismatch" in example:
        return "NOT identical: all tokens are right, but they do not decode to the text (unknown tokens?)"
    return "NOT identical"
