"""What is left of a text if its embedding keeps only the first principal components of its trajectory.

The embedding is that of the lane's last point: the mean of all points, plus its coordinates along the first
components. With all of them it is the embedding itself, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcram import decode
from jaxcram.analysis import interval
from jaxcram.analysis.basis import Basis
from jaxcram.models.decoder import Decoder

_DECODERS = {"tf": "teacher_forced", "exact": "exact"}  # names in `jaxcram.decode`
NEARLY = 0.98  # teacher-forced accuracy that `summarise` asks how many components for


def counts(components: int, also: int) -> list[int]:
    """The numbers of components to try, ascending: 0 to 7, then four for each doubling; `also`, and all."""
    few = [m << k for k in range(components.bit_length()) for m in range(4, 8)]
    return sorted({count for count in (0, 1, 2, 3, *few, also, components) if count <= components})


def measure(
    model: Decoder, points_RxKxD: np.ndarray, target_T: np.ndarray, shape: tuple[int, int]
) -> list[dict[str, Any]]:
    """A lane's last embedding rebuilt from the first components of its trajectory, a row for each number.

    Args:
        model: the frozen decoder.
        points_RxKxD: the embedding of every stage, in order; at least one.
        target_T: the prefix of the last one, int32, not empty.
        shape: padded tokens and lanes per device of the passes that measured it (see `decode.verify`).

    Returns:
        Each row has the number of `components`; `pca99`, how many have 99% of the variance; the `tokens` of
        the prefix; `variance`, the share that these components have, 0 to 1; `distance` from the embedding,
        over that of the mean; and `tf_accuracy` and `tf_wrong`, the indices of wrong tokens, teacher-forced;
        `exact_accuracy` and `exact_wrong` of greedy decoding. Token 0 is read from the embedding alone, so it
        is wrong in both or in neither.
    """
    basis = Basis.of(points_RxKxD)
    pca99, total = basis.count(), basis.rank
    tried, last_C = counts(total, pca99), basis.coordinates_SxC[-1, :total]
    embedding_KxD = np.asarray(points_RxKxD[-1], np.float32)
    rebuilt = [basis.rebuilt(count)[-1] for count in tried[:-1]]
    mem_SxKxD = np.stack([*rebuilt, embedding_KxD]).astype(np.float32)
    decoded = decode.verify(model, mem_SxKxD, [target_T] * len(tried), [shape] * len(tried))
    explained = np.concatenate([[0.0], np.cumsum(basis.shares_C)])
    rows = []
    for count, tokens in zip(tried, decoded, strict=True):
        left = np.linalg.norm(last_C[count:]) / np.linalg.norm(last_C) if count < total else 0.0
        row: dict[str, Any] = {"components": count, "pca99": pca99, "tokens": len(target_T)}
        row |= {"variance": float(explained[count]), "distance": float(left)}
        for name, form in _DECODERS.items():
            wrong = np.flatnonzero(tokens[form] != target_T)
            row |= {f"{name}_accuracy": 1 - len(wrong) / len(target_T), f"{name}_wrong": wrong.tolist()}
        rows.append(row)
    return rows


def summarise(
    lanes: Sequence[Sequence[Mapping[str, Any]]], texts: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Reconstructions of several lanes.

    Args:
        lanes: the rows that `measure` has of each, at least one lane.
        texts: what each is of (see `jaxcram.analysis.interval.of_mean`).

    Returns:
        `lanes`, their number. `curve`: by number of `components`, means over lanes of `tf_accuracy`,
        `exact_accuracy` and `first_wrong`, whether token 0 is wrong; a lane with fewer components counts with
        all that it has. `pca99`: the same where each lane has 99% of its variance, with `*_interval`, the 95%
        interval of each mean; `tf_mismatch` and `exact_mismatch`, by position the share of lanes that are
        wrong there, over those that have it; and `error_position`, the mean of (index + 0.5) / tokens over
        wrong tokens, teacher-forced: 0.5 if they are spread evenly, None if there are none. `nearly`: the
        mean number of components from which on teacher-forced `accuracy` stays at least 0.98, with its
        `interval`. Intervals are None for one text.
    """
    most = max(lane[-1]["components"] for lane in lanes)
    at_99 = [_at(lane, lane[0]["pca99"]) for lane in lanes]
    errors = [(index + 0.5) / row["tokens"] for row in at_99 for index in row["tf_wrong"]]
    needed = [_needed(lane) for lane in lanes]
    return {
        "lanes": len(lanes),
        "curve": [_means(at(lanes, count), count) for count in counts(most, most)],
        "pca99": {
            **_means(at_99, float(np.mean([row["components"] for row in at_99]))),
            **{f"{name}_interval": interval.of_mean(of(at_99), texts) for name, of in _MEASURES.items()},
            **{f"{name}_mismatch": mismatch(at_99, name) for name in _DECODERS},
            "error_position": float(np.mean(errors)) if errors else None,
        },
        "nearly": {
            "accuracy": NEARLY,
            "components": float(np.mean(needed)),
            "interval": interval.of_mean(needed, texts),
        },
    }


def mismatch(rows: Sequence[Mapping[str, Any]], decoder: str) -> list[float]:
    """By position the share of lanes whose token there is wrong, over those that have that position.

    Args:
        rows: one a lane.
        decoder: "tf" or "exact".
    """
    lengths = np.array([row["tokens"] for row in rows])
    wrong_T = np.bincount(
        np.concatenate([np.asarray(row[f"{decoder}_wrong"], int) for row in rows]), minlength=lengths.max()
    )
    return [float(wrong / np.sum(lengths > index)) for index, wrong in enumerate(wrong_T)]


def at(lanes: Sequence[Sequence[Mapping[str, Any]]], count: int) -> list[Mapping[str, Any]]:
    """The row of each lane with so many components, one of `counts`, or with all if a lane has fewer."""
    return [_at(lane, count) for lane in lanes]


def _at(lane: Sequence[Mapping[str, Any]], count: int) -> Mapping[str, Any]:
    return next((row for row in lane if row["components"] == count), lane[-1])


_MEASURES: dict[str, Callable[[Sequence[Mapping[str, Any]]], list[float]]] = {
    "tf_accuracy": lambda rows: [row["tf_accuracy"] for row in rows],
    "exact_accuracy": lambda rows: [row["exact_accuracy"] for row in rows],
    "first_wrong": lambda rows: [float(0 in row["tf_wrong"]) for row in rows],
}


def _means(rows: Sequence[Mapping[str, Any]], count: float) -> dict[str, Any]:
    means = {name: float(np.mean(of(rows))) for name, of in _MEASURES.items()}
    return {"components": count, **means}


def _needed(lane: Sequence[Mapping[str, Any]]) -> int:
    """The number of components from which on accuracy stays nearly 1; all, if even these are too few."""
    needed = lane[-1]["components"]
    for row in reversed(lane):
        if row["tf_accuracy"] < NEARLY:
            break
        needed = row["components"]
    return needed
