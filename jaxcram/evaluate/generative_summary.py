"""From generated answers to rows of a table, and to what an evaluation has found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcram.evaluate.accuracy import Interval, accuracy, difference
from jaxcram.evaluate.generative import Answer
from jaxcram.evaluate.settings import BASE_MODE
from jaxcram.results.table import Job, Row


def rows_of(
    answers: Iterable[Answer],
    jobs: Mapping[int, Job],
    crams: Mapping[int, int | None] | None = None,
    converged: Mapping[int, bool] | None = None,
) -> dict[Job, list[Row]]:
    """The rows of a table of answers (`results.answers`), by lane.

    Args:
        answers: of any items, in one mode or in several.
        jobs: by id of the item; its sample id is the item's, whatever was crammed.
        crams: by id of the item, the sample that was crammed for it (`Prompt.cram`); None if none was.
        converged: by id of the item, whether that sample is exact; None if nothing was crammed.
    """
    rows: dict[Job, list[Row]] = defaultdict(list)
    for answer in answers:
        job, base = jobs[answer.item], answer.mode == BASE_MODE
        rows[job].append(
            {
                "answer_index": len(rows[job]),
                "mode": answer.mode,
                "cram_id": None if base else (crams or {}).get(answer.item),
                "text": answer.text,
                "letter": answer.letter,
                "label": answer.label,
                "right": answer.right,
                "valid": answer.valid,
                "converged": None if base else (converged or {}).get(answer.item),
                "subject": answer.subject,
            }
        )
    return dict(rows)


def answers_of(rows: Iterable[Row]) -> tuple[list[Answer], dict[int, bool]]:
    """The answers in rows, and whether what was crammed for an item is exact; the inverse of `rows_of`."""
    answers, converged = [], {}
    for row in rows:
        names = ("mode", "label", "text", "letter", "subject")
        answers.append(Answer(row["sample_id"], **{name: row[name] for name in names}))
        if row["converged"] is not None:
            converged[row["sample_id"]] = row["converged"]
    return answers, converged


def summarise(
    answers: Sequence[Answer],
    base: Sequence[Answer] | None = None,
    converged: Mapping[int, bool] | None = None,
) -> dict[str, Any]:
    """What a generative evaluation has found in one mode.

    Args:
        answers: of the items in that mode. An answer that is not valid is wrong.
        base: answers in mode none to the same items, in any order; None leaves out what compares them.
        converged: by id of the item, whether what was crammed for it is exact; None leaves out what counts
            those items alone.

    Returns:
        `mode`, `items`, `accuracy` and `valid_share`; `converged` (how many), `converged_share`,
        `accuracy_converged` and `valid_share_converged`; `base_accuracy` and `base_valid_share`; `difference`
        and `difference_converged`, the accuracy minus the base's on the same items; and of every accuracy,
        difference and share of valid answers a 95% `_interval`, [low, high].

    Raises:
        ValueError: answers are of several modes, or the base has other items.
    """
    modes = {answer.mode for answer in answers}
    if len(modes) != 1:
        raise ValueError(f"answers of modes {sorted(modes)}; summarise one")
    answers = sorted(answers, key=lambda answer: answer.item)
    right_I, valid_I = _right(answers), np.array([answer.valid for answer in answers], bool)
    found: dict[str, Any] = {
        "mode": modes.pop(),
        "items": len(answers),
        **_named("accuracy", accuracy(right_I)),
        **_named("valid_share", accuracy(valid_I)),
    }
    exact_I = None if converged is None else np.array([converged[answer.item] for answer in answers], bool)
    if exact_I is not None:
        found |= {
            "converged": int(exact_I.sum()),
            "converged_share": float(exact_I.mean()),
            **_named("accuracy_converged", accuracy(right_I[exact_I])),
            **_named("valid_share_converged", accuracy(valid_I[exact_I])),
        }
    if base is None:
        return found
    base = sorted(base, key=lambda answer: answer.item)
    if [answer.item for answer in base] != [answer.item for answer in answers]:
        raise ValueError("the base has other items")
    base_I = _right(base)
    found |= {
        **_named("base_accuracy", accuracy(base_I)),
        **_named("base_valid_share", accuracy(np.array([answer.valid for answer in base], bool))),
        **_named("difference", difference(right_I, base_I)),
    }
    if exact_I is not None:
        found |= _named("difference_converged", difference(right_I[exact_I], base_I[exact_I]))
    return found


def _right(answers: Iterable[Answer]) -> np.ndarray:
    return np.array([answer.right for answer in answers], bool)


def _named(name: str, interval: Interval) -> dict[str, Any]:
    return {name: interval.mean, f"{name}_interval": [interval.low, interval.high]}
