"""The table of a knockout run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcram.report.evaluation import with_interval

_PROTOCOLS = {"single": "alone", "forward": "first", "reverse": "last"}


def knockout(summary: Mapping[str, Any]) -> str:
    """Accuracy and reconstruction with layers knocked out, a line a layer, and attention masses.

    Args:
        summary: of a knockout run (see `jaxcram.evaluate.knockout_summary.summarise`).
    """
    of_items = summary["base_accuracy"] is not None
    what = f"{summary['task']}: {summary['items']} items" if of_items else f"{summary['items']} texts"
    lines = [f"{what}, {summary['converged']} converged, {summary['num_layers']} layers"]
    if left_out := summary.get("left_out"):
        lines += [f"left out, without an embedding: samples {', '.join(map(str, left_out))}"]
    if of_items:
        lines += [
            "accuracy  base "
            + with_interval(summary["base_accuracy"], summary["base_accuracy_interval"])
            + ", crammed "
            + with_interval(summary["crammed_accuracy"], summary["crammed_accuracy_interval"])
        ]
    lines += [f"TF        crammed {_number(summary['crammed_tf_accuracy'])}", ""]
    lines += _by_layer(summary, summary, of_items)
    if sets := summary.get("layers"):
        lines += ["", *_sets(sets, of_items)]
    if published := summary.get("own_row"):
        lines += [
            "",
            "with the memory barred from itself too, as published code does:",
        ]
        lines += _by_layer(published, {}, of_items)
        if sets := published.get("layers"):
            lines += ["", *_sets(sets, of_items)]
    correlation = summary["attention_mass"]["correlation"]
    lines += [
        "",
        "knocked out are this layer alone; the first ones, 0 to it; the last ones, it to the last",
        "TF: teacher-forced accuracy of the crammed text; mass: attention that the text gives to the memory,",
        "and without it to its first token (bos), percent; their correlation over layers: "
        + _number(correlation),
        "in brackets 95% intervals (bootstrap over items)",
    ]
    return "\n".join(lines)


def _by_layer(protocols: Mapping[str, Any], masses: Mapping[str, Any], of_items: bool) -> list[str]:
    """A line a layer: its place in each protocol, and its masses."""
    header, columns = ["layer"], []
    for name, meaning in _PROTOCOLS.items():
        if name not in protocols:
            continue
        entries = protocols[name][1:]  # the first knocks nothing out
        if name == "single":
            entries = [entry for entry in entries if len(entry["layers"]) == 1]
        if name == "reverse":
            entries = entries[::-1]
        if of_items:
            header.append(f"{meaning}: acc")
            columns.append([_number(entry["accuracy"]) for entry in entries])
        header.append("TF" if of_items else f"{meaning}: TF")
        columns.append([_number(entry["tf_accuracy"]) for entry in entries])
    for name in ("memory", "bos"):
        if masses:
            header.append(f"mass {name}")
            columns.append([_number(mass, ".1f") for mass in masses["attention_mass"][name]])
    if not columns:
        return []
    count = len(columns[-1])
    rows = [header] + [[str(layer), *(column[layer] for column in columns)] for layer in range(count)]
    return _aligned(rows)


def _sets(entries: Sequence[Mapping[str, Any]], of_items: bool) -> list[str]:
    rows = [["layers", *(["accuracy"] if of_items else []), "TF"]]
    for entry in entries:
        accuracy = [with_interval(entry["accuracy"], entry["accuracy_interval"])] if of_items else []
        layers = ",".join(map(str, entry["layers"]))
        rows.append([layers, *accuracy, _number(entry["tf_accuracy"])])
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else f"{value:{form}}"
