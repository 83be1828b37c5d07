"""What an experiment works on: embeddings with what was crammed into them, from a task or from a run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import processes
from jaxcram.errors import UserError
from jaxcram.evaluate.choices import Choices
from jaxcram.evaluate.settings import TaskSettings, cram_settings
from jaxcram.experiments.contexts import Crammed, Items, cram_contexts, load, of_outcomes, settings_of
from jaxcram.experiments.experiment import Experiment
from jaxcram.experiments.lanes import finished, with_models
from jaxcram.loading import Model, load_model
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import expanded
from jaxcram.results.reading import load_settings, program_of
from jaxcram.runs import Run, stored_outcomes


@dataclasses.dataclass(frozen=True, eq=False)
class Subjects:
    """I crammed texts.

    Attributes:
        model: that they are crammed into.
        task: name of the task whose contexts they are; None for texts alone.
        ids: of each; targets: int32 [n], the crammed tokens of each.
        choices: the items; None for texts alone.
        crammed: the embeddings; None where they are still to be made, of `items` under `settings`.
        recorded: what settings.json records of all this.
    """

    model: Model
    task: str | None
    ids: list[int]
    targets: list[np.ndarray]
    choices: list[Choices] | None
    recorded: dict[str, Any]
    crammed: Crammed | None = None
    items: Items | None = None
    settings: CramSettings | None = None

    def embeddings(self, directory: RunDirectory, *, verbose: bool, checkpoint_minutes: float) -> Crammed:
        """The embeddings, crammed in a directory where they are not there yet."""
        if self.crammed is not None:
            return self.crammed
        assert self.items is not None
        assert self.settings is not None
        return cram_contexts(
            directory,
            self.model,
            self.items,
            self.settings,
            verbose=verbose,
            checkpoint_minutes=checkpoint_minutes,
        )


def of_task(
    model: Model | str | os.PathLike[str] | None,
    task: TaskSettings,
    settings: CramSettings | None,
    options: Mapping[str, Any],
) -> Subjects:
    """The items of a task, whose contexts are still to be crammed.

    Args:
        model: as `load_model` takes it, or loaded.
        task: its settings.
        settings: how contexts are crammed; None is as published.
        options: single settings of that by name.

    Raises:
        UserError: bad settings, or items that cannot be read or do not fit the model.
    """
    if task.generative is not None:
        raise UserError(
            f"generative={task.generative}: a knockout scores endings; leave it out, or evaluate with it"
        )
    settings = cram_settings(settings, options)
    model = model if isinstance(model, Model) else load_model(model)
    with processes.together():
        found = load(task, model, settings.num_memory)
    return Subjects(
        model=model,
        task=task.task,
        ids=[item.id for item in found.items],
        targets=[choices.context for choices in found.choices],
        choices=found.choices,
        recorded=settings_of(model, task, settings, found),
        items=found,
        settings=settings,
    )


def of_run(
    run: Run | Experiment | str | os.PathLike[str],
    model: Model | str | os.PathLike[str] | None,
    *,
    limit: int | None = None,
    samples: Sequence[int] | None = None,
) -> Subjects:
    """The crammed items of a finished evaluation, or the crammed texts of a run.

    Args:
        run: itself, or its directory.
        model: the run's model, or None, which loads it by the recorded name.
        limit: the first so many; samples: ids of those to take instead; None takes all.

    Raises:
        UserError: the run has not finished or is of another kind, its model or items are not what they were,
            or there are no such ids.
    """
    with processes.together():
        path = run.path if isinstance(run, Run | Experiment) else expanded(run)
        program, crams = program_of(path), crams_of(path)
    ((_, loaded),) = with_models([crams], model)
    with processes.together():
        outcomes, targets, _ = stored_outcomes(crams, loaded)
        found = None if program == "cram" else _items_again(path, loaded, crams.settings["num_memory"])
        _require_one_lane_each(crams, outcomes)
        ids = _chosen(crams.path, sorted(targets), limit, samples)
        crammed = of_outcomes(crams, loaded, outcomes, ids)
    by_id = {} if found is None else {choices.id: choices for choices in found.choices}
    digests = {
        i: (hashlib.sha256(mem_KxD.tobytes()).hexdigest(), targets[i])
        for i, mem_KxD in zip(ids, crammed.mem_IxKxD, strict=True)
    }
    return Subjects(
        model=loaded,
        task=None if found is None else found.task.task,
        ids=ids,
        targets=[targets[i] for i in ids],
        choices=None if found is None else [by_id[i] for i in ids],
        recorded={
            "run": str(path),
            "model": loaded.name,
            "dtype": str(np.dtype(loaded.decoder.dtype)),
            identity.CONTENTS: identity.contents(loaded.contents, digests),
        },
        crammed=crammed,
    )


def crams_of(run: str | os.PathLike[str]) -> Run:
    """The finished run that crammed what an evaluation evaluates, or a run of cram itself.

    Raises:
        UserError: it is of another kind, or not finished.
    """
    path, program = expanded(run), program_of(run)
    if program not in ("cram", "evaluate"):
        raise UserError(f"{path}: a run of {program!r}; give an evaluation or a run of cram")
    if (mode := load_settings(path).get("generative")) is not None:
        raise UserError(f"{path}: its answers were generated ({mode}), no endings scored; give another")
    return finished(path if program == "cram" else path / "crams")


def _items_again(path: Path, model: Model, num_memory: int) -> Items:
    """The items of an evaluation, read again and compared with what it recorded."""
    settings = load_settings(path)
    names = ("task", "data", "limit", "samples", "bos")
    values = {name: settings[name] for name in names if name in settings}
    found = load(TaskSettings(**values), model, num_memory)
    now = settings_of(model, found.task, CramSettings(), found)[identity.CONTENTS]
    before = settings.get(identity.CONTENTS, {}).get("texts", {})
    for sample, text in before.items():
        if now["texts"].get(sample, {}).get("digest") != text["digest"]:
            raise UserError(
                f"{path}: item {sample}, {text['begins']!r}, is not what it was in "
                f"{values.get('data') or 'its source'}; restore that, or evaluate anew"
            )
    return found


def _require_one_lane_each(run: Run, outcomes: Sequence[Outcome]) -> None:
    """Raises UserError where a sample has several lanes."""
    counts = Counter(outcome.job.sample_id for outcome in outcomes)
    if several := [i for i, count in sorted(counts.items()) if count > 1]:
        raise UserError(
            f"{run.path}: sample {several[0]} has several lanes; give a run with one learning rate and one "
            "seed"
        )


def _chosen(path: Path, ids: list[int], limit: int | None, samples: Sequence[int] | None) -> list[int]:
    if limit is not None and samples is not None:
        raise UserError("limit and samples: both say which items to take; give one of them")
    if samples is not None:
        if not samples:
            raise UserError("samples: no id; give at least one")
        if missing := set(samples) - set(ids):
            raise UserError(f"samples: {path} has no sample {min(missing)}; it has {ids[0]} to {ids[-1]}")
        return sorted(set(samples))
    if limit is not None and not 1 <= limit <= len(ids):
        raise UserError(f"limit={limit}: {path} has {len(ids)} samples; give a number from 1 to that")
    return ids[:limit]
