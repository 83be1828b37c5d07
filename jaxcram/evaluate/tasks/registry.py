"""The tasks by name, and their items from files, from the Hub or from the package."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from jaxcram.errors import UserError
from jaxcram.evaluate.tasks.arc import ARC_CHALLENGE, ARC_EASY
from jaxcram.evaluate.tasks.cloze import CLOZE
from jaxcram.evaluate.tasks.hellaswag import HELLASWAG
from jaxcram.evaluate.tasks.mmlu import MMLU
from jaxcram.evaluate.tasks.task import Item, Row, Task
from jaxcram.text import tables

TASKS = {task.name: task for task in (HELLASWAG, ARC_EASY, ARC_CHALLENGE, MMLU, CLOZE)}


def find_task(name: str) -> Task:
    """The task of a name. Raises UserError if there is none."""
    if name not in TASKS:
        raise UserError(f"task={name}: no such task; there are {', '.join(TASKS)}")
    return TASKS[name]


def load_items(
    task: Task,
    *,
    data: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    samples: Sequence[int] | None = None,
    shots_data: str | os.PathLike[str] | None = None,
    num_shots: int = 5,
) -> list[Item]:
    """Reads items; no more of the source is read than needed.

    Args:
        task: one of `TASKS`.
        data: a table with the task's columns (.jsonl, .json, .csv, .tsv, .parquet; in .csv lists and objects
            are JSON), or the name of a Hub data set, optionally `name:config`. None is the task's own.
        limit: the first so many items; None takes all.
        samples: ids of the items to take instead, in any order; the items come in the order of the source.
        shots_data: where the shots come from, as `data`; needed only where `data` is given. None leaves the
            items without shots then, and takes those of the task's own source otherwise.
        num_shots: shots of each item; 0 makes none.

    Raises:
        UserError: there is no such source, it cannot be read, or has fewer items; a column is missing, a text
            is empty, or a label is missing or out of range; or a subject has too few shots.
    """
    if limit is not None and samples is not None:
        raise UserError("limit and samples: both say which items to take; give one of them")
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit} must be at least 1")
    if num_shots < 0:
        raise UserError(f"num_shots={num_shots} must be 0 or greater")
    source = task.source if data is None else os.fspath(data)
    items = _chosen(_items("data", source, task, task.split), source, limit, samples)
    if task.shot is None or num_shots == 0 or (data is not None and shots_data is None):
        return items
    return _with_shots(items, task, task.source if shots_data is None else os.fspath(shots_data), num_shots)


def _items(setting: str, source: str, task: Task, split: str) -> Iterator[Item]:
    if Path(source).is_dir():
        raise UserError(f"{setting}={source}: a directory; give one of its files")
    for number, (where, cells) in enumerate(tables.rows(setting, source, split, task.columns)):
        yield task.item(Row(where, cells), number)


def _chosen(
    items: Iterator[Item], source: str, limit: int | None, samples: Sequence[int] | None
) -> list[Item]:
    if samples is None:
        chosen = list(islice(items, limit))
        if not chosen:
            raise UserError(f"data={source} has no item; give another source")
        if limit is not None and len(chosen) < limit:
            raise UserError(f"limit={limit}: data={source} has only {len(chosen)} items; lower it")
        return chosen
    wanted = set(samples)
    if not wanted:
        raise UserError("samples: no id; give at least one")
    for number in samples:
        if number < 0 or list(samples).count(number) > 1:
            reason = "is negative; ids start at 0" if number < 0 else "is given twice; give it once"
            raise UserError(f"samples: {number} {reason}")
    chosen = [item for item in islice(items, max(wanted) + 1) if item.id in wanted]
    if len(chosen) < len(wanted):
        missing = min(wanted - {item.id for item in chosen})
        raise UserError(f"samples: {missing} is not an id of data={source}; ids are row numbers from 0")
    return chosen


def _with_shots(items: list[Item], task: Task, source: str, num_shots: int) -> list[Item]:
    """The items, each after the first shots of its subject."""
    assert task.shot is not None
    solved: dict[str | None, list[Item]] = defaultdict(list)
    for item in _items("shots_data", source, task, task.shots_split):
        solved[item.subject].append(item)
    for item in items:
        if len(found := solved[item.subject]) < num_shots:
            raise UserError(
                f"num_shots={num_shots}: shots_data={source} has only {len(found)} of subject "
                f"{item.subject!r}; lower it, or give more"
            )
    shots = {
        subject: task.preamble(subject) + "".join(map(task.shot, found[:num_shots]))
        for subject, found in solved.items()
    }
    return [
        dataclasses.replace(item, shots=shots[item.subject], shots_id=solved[item.subject][0].id)
        for item in items
    ]
