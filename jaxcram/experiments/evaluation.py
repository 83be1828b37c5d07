"""`jaxcram evaluate` on disk: the contexts of a task's items crammed, and what the model says after them.

    settings.json      as of every run, with `program` "evaluate"
    crams/             the run that crams the contexts, as `jaxcram cram` leaves one; sample ids are items'
    scores/            Parquet, many items a file (`jaxcram.results.scores`); answers/ if they are generated
    log.jsonl          events
    summary.json       what was found (`jaxcram.evaluate.summary`)

The same call resumes all of it, and may bring more items.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from jaxcram import report
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import begin, open_experiment
from jaxcram.devices import configuration, processes
from jaxcram.errors import UserError
from jaxcram.evaluate import summary
from jaxcram.evaluate.multiple_choice import score
from jaxcram.evaluate.settings import CRAM, TaskSettings, taken
from jaxcram.experiments.contexts import Crammed, groups
from jaxcram.experiments.generation import Questions, answer, questions
from jaxcram.experiments.subjects import Subjects, of_task
from jaxcram.loading import Model
from jaxcram.options import EvaluationOptions, shows_options
from jaxcram.results import identity
from jaxcram.results.answers import ANSWERS
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import expanded
from jaxcram.results.reading import load_settings, load_summary, program_of
from jaxcram.results.scores import SCORES
from jaxcram.results.table import Job
from jaxcram.runs import Run

if TYPE_CHECKING:
    import pyarrow as pa

EVALUATION = identity.RunKind("evaluate", (SCORES.name,), identity.agreed)
GENERATION = identity.RunKind("evaluate", (ANSWERS.name,), identity.agreed)


class Evaluation:
    """A finished evaluation on disk.

    Attributes:
        path: its directory.
        settings: as settings.json has them.
        summary: as summary.json has it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        self.settings = load_settings(path)
        self.summary = load_summary(path)

    @property
    def crams(self) -> Run:
        """The run that crammed the contexts."""
        return Run(self.path / "crams")

    def scores(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The scores as an Arrow table (`results.scores.COLUMNS`), a row for each score and ending."""
        return SCORES.read_shards(self.path / SCORES.name, columns)

    def answers(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The generated answers as an Arrow table (`results.answers.COLUMNS`), a row an item and mode."""
        return ANSWERS.read_shards(self.path / ANSWERS.name, columns)

    @property
    def generative(self) -> bool:
        """Whether answers were generated, not endings scored."""
        return self.settings.get("generative") is not None

    def table(self) -> str:
        """Accuracies with their intervals, on all items and on the converged ones."""
        return (report.generation if self.generative else report.evaluation)(self.summary)

    def __repr__(self) -> str:
        of = self.summary
        return (
            f"Evaluation({str(self.path)!r}: {of['task']}, {of['items']} items, {of['converged']} converged)"
        )


def load_evaluation(path: str | os.PathLike[str]) -> Evaluation:
    """An evaluation from its directory.

    Raises:
        UserError: the path is no evaluation, or it is not finished.
    """
    if (program := program_of(path)) != EVALUATION.program:
        raise UserError(f"{path}: a run of {program!r}, not an evaluation; give the directory of one")
    return Evaluation(path)


@shows_options(EvaluationOptions, CRAM, TaskSettings())
@configuration.pinned()
def evaluate(
    model: Model | str | os.PathLike[str] | None = None,
    task: str | TaskSettings = "cloze",
    *,
    out: str | os.PathLike[str] | None = None,
    settings: CramSettings | None = None,
    verbose: bool = True,
    checkpoint_minutes: float = 10.0,
    **options: Unpack[EvaluationOptions],
) -> Evaluation:
    """Cram the context of every item, then score its endings with the embedding and without.

        found = api.evaluate(model, "hellaswag", data="hellaswag.jsonl", limit=64, learning_rates=0.5)

    A second call with the same directory does what is missing, and may bring more items.

    Args:
        model: a loaded model, its directory or Hub name, or None for the bundled one.
        task: name of a task, or its settings.
        out: the directory; None makes a fresh one under `runs/`.
        settings: how contexts are crammed; None is as published (`jaxcram.evaluate.settings.CRAM`).
        verbose: show progress on stderr.
        checkpoint_minutes: between two checkpoints of the contexts under way; 0 makes none.
        options: single fields of `TaskSettings` and settings of `api.cram` by name.

    Raises:
        UserError: bad input, before anything is computed or written.
        StoppedError, Interrupted: as `api.cram`.
    """
    path = begin(out, checkpoint_minutes)
    of_items, _ = taken(options, TaskSettings)
    base = task if isinstance(task, TaskSettings) else TaskSettings(task=task)
    items = dataclasses.replace(base, **of_items)
    if items.generative is not None:
        return _generated(path, questions(model, items, settings, options), verbose, checkpoint_minutes)
    subjects = of_task(model, task, settings, options)
    with open_experiment(path, subjects.recorded, EVALUATION) as directory:
        crammed = subjects.embeddings(directory, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
        with report.Bar(verbose and processes.number() == 0) as bar:
            _score(directory, subjects, crammed, bar)
        return Evaluation(directory.path)


def _generated(path: str, asked: Questions, verbose: bool, checkpoint_minutes: float) -> Evaluation:
    with open_experiment(path, asked.recorded, GENERATION) as directory:
        answer(directory, asked, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
        return Evaluation(directory.path)


def _score(directory: RunDirectory, subjects: Subjects, crammed: Crammed, bar: report.Bar) -> None:
    """Scores the items that have no scores yet, group by group, and writes the summary."""
    ids = subjects.ids
    jobs = dict(zip(ids, crammed.jobs, strict=True))
    done = set(processes.from_first(lambda: sorted(job.sample_id for job in directory.jobs_of(SCORES))))
    left, start = groups(ids, done), time.monotonic()
    count = sum(map(len, left))
    scored = 0
    for members in left:
        rows = _rows(subjects, crammed, members, jobs)
        if processes.number() == 0:
            directory.write_group(SCORES, rows)
        with processes.together():
            pass
        scored += len(members)
        seconds = (time.monotonic() - start) / scored * (count - scored)
        directory.log({"event": "scored", "items": len(done) + scored, "left_s": seconds})
        bar.tell(f"{len(done) + scored}/{len(ids)} items scored, {report.duration(seconds)} left")
    processes.from_first(lambda: directory.write_summary(_summary(directory, subjects)))


def _rows(
    subjects: Subjects, crammed: Crammed, members: Sequence[int], jobs: dict[int, Job]
) -> dict[Job, list[dict[str, Any]]]:
    """The rows of a group of items; an item without an embedding has scores of the text alone only."""
    assert subjects.items is not None
    choices, decoder = subjects.items.choices, subjects.model.decoder
    usable = [i for i in members if crammed.usable_I[i]]
    scores = score(decoder, [choices[i] for i in usable], crammed.mem_IxKxD[usable])
    scores += score(decoder, [choices[i] for i in members if not crammed.usable_I[i]])
    converged = {choices[i].id: bool(crammed.converged_I[i]) for i in members}
    subjects_of = {choices[i].id: subjects.items.items[i].subject for i in members}
    return summary.rows_of(scores, jobs, converged, subjects_of)


def _summary(directory: RunDirectory, subjects: Subjects) -> dict[str, Any]:
    rows = SCORES.read_shards(directory.path / SCORES.name, None).to_pylist()
    crams = load_summary(directory.path / "crams")
    kept = ("mode", "wall_s", "compile_s", "passes", "lane_steps", "useful_share", "versions", "devices")
    return {
        "task": subjects.task,
        "model": subjects.model.name,
        **summary.summarise(*summary.scores_of(rows)),
        **{name: crams[name] for name in kept},
    }
