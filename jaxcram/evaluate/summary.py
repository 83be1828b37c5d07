"""From scores of items to what an evaluation has found: accuracies, their intervals, and differences.

Accuracies are shares of items, 0 to 1. Published accuracies with an embedding count converged items only,
those whose whole context is exact, and go by the mean log-probability per token ([P]).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcram.evaluate.accuracy import NORMALIZATIONS, Interval, accuracy, difference, right
from jaxcram.evaluate.multiple_choice import SCORES, Score
from jaxcram.results.table import Job, Row

PUBLISHED = "token"  # the normalisation of the published accuracies
# The score without an embedding that scores the same tokens, edge forms aside.
BASE_OF = {name: "base_ending" if "ending" in name or "instead" in name else "base" for name in SCORES}


def rows_of(
    scores: Iterable[Score],
    jobs: Mapping[int, Job],
    converged: Mapping[int, bool],
    subjects: Mapping[int, Any],
) -> dict[Job, list[Row]]:
    """The rows of a table of scores (`results.scores`), by lane.

    Args:
        scores: of any items, those of an item in the order of `SCORES`.
        jobs, converged, subjects: by id of the item.
    """
    rows: dict[Job, list[Row]] = defaultdict(list)
    for score in scores:
        job = jobs[score.item]
        for ending, values in enumerate(zip(score.log_probs, score.tokens, score.characters, strict=True)):
            log_prob, tokens, characters = values
            rows[job].append(
                {
                    "score_index": len(rows[job]),
                    "score": score.name,
                    "ending": ending,
                    "label": score.label,
                    "log_prob": log_prob,
                    "tokens": tokens,
                    "characters": characters,
                    "converged": converged[score.item],
                    "subject": subjects[score.item],
                }
            )
    return dict(rows)


def scores_of(rows: Sequence[Row]) -> tuple[list[Score], dict[int, bool]]:
    """The scores in rows, and whether each item converged, by id; the inverse of `rows_of`."""
    endings: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        endings[row["sample_id"], row["score"]].append(row)
    scores = [
        Score(
            item=item,
            name=name,
            label=of_one[0]["label"],
            log_probs=tuple(row["log_prob"] for row in of_one),
            tokens=tuple(row["tokens"] for row in of_one),
            characters=tuple(row["characters"] for row in of_one),
        )
        for (item, name), of_one in endings.items()
    ]
    return scores, {row["sample_id"]: row["converged"] for row in rows}


def summarise(scores: Sequence[Score], converged: Mapping[int, bool]) -> dict[str, Any]:
    """What an evaluation of multiple choice has found.

    Args:
        scores: of all items; an item whose embedding is of no use has those without an embedding only, and
            is answered wrongly with one.
        converged: by id of the item, whether its whole context is exact.

    Returns:
        `items`, `converged` (how many), `converged_share`; `base_accuracy`, `crammed_accuracy` and
        `crammed_accuracy_converged`, each with an `_interval` ([low, high], 95%), of the scores "base" and
        "memory" per token; `difference` and `difference_converged`, crammed minus base on the same items;
        `scores`, the accuracy per token of every score; and `accuracies`, of every score and normalisation,
        on all items and on the converged ones, each with the difference to the base that scores the same
        tokens (see `BASE_OF`). What no item is counted in is NaN.
    """
    ids = sorted(converged)
    whole_I = np.array([converged[i] for i in ids], bool)
    by_name = {name: {score.item: score for score in scores if score.name == name} for name in SCORES}
    right_of = {
        (name, by): np.array([i in of and bool(right([of[i]], by)[0]) for i in ids], bool)
        for name, of in by_name.items()
        for by in NORMALIZATIONS
    }
    accuracies = {
        name: {by: _entry(right_of[name, by], right_of[BASE_OF[name], by], whole_I) for by in NORMALIZATIONS}
        for name in SCORES
    }
    base, crammed = (accuracies[name][PUBLISHED] for name in ("base", "memory"))
    return {
        "items": len(ids),
        "converged": int(whole_I.sum()),
        "converged_share": float(whole_I.mean()),
        "base_accuracy": base["accuracy"],
        "base_accuracy_interval": base["interval"],
        "crammed_accuracy": crammed["accuracy"],
        "crammed_accuracy_interval": crammed["interval"],
        "crammed_accuracy_converged": crammed["accuracy_converged"],
        "crammed_accuracy_converged_interval": crammed["interval_converged"],
        "difference": crammed["difference"],
        "difference_interval": crammed["difference_interval"],
        "difference_converged": crammed["difference_converged"],
        "difference_converged_interval": crammed["difference_converged_interval"],
        "scores": {name: accuracies[name][PUBLISHED]["accuracy"] for name in SCORES},
        "accuracies": accuracies,
    }


def _entry(right_I: np.ndarray, base_I: np.ndarray, whole_I: np.ndarray) -> dict[str, Any]:
    """The accuracy of one score under one normalisation, on all items and on the converged ones."""
    figures = {
        ("accuracy", "interval"): accuracy(right_I),
        ("accuracy_converged", "interval_converged"): accuracy(right_I[whole_I]),
        ("difference", "difference_interval"): difference(right_I, base_I),
        ("difference_converged", "difference_converged_interval"): difference(
            right_I[whole_I], base_I[whole_I]
        ),
    }
    return {
        name: value
        for (mean, interval), found in figures.items()
        for name, value in ((mean, found.mean), (interval, _bounds(found)))
    }


def _bounds(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
