"""`jaxcram evaluate` on disk: the contexts of a task's items crammed, and what the model says after them.

    settings.json      as of every run, with `program` "evaluate"
    crams/             the run that crams the contexts, as `jaxcram cram` leaves one; sample ids are items'
    scores/            Parquet, many items a file (`jaxcram.results.scores`); answers/ if they are generated
    log.jsonl          events
    summary.json       what was found (`jaxcram.evaluate.summary`)

The same call resumes all of it, and may bring more items.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from jaxcram import report
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import begin, open_experiment
from jaxcram.devices import configuration, processes
from jaxcram.evaluate import summary
from jaxcram.evaluate.multiple_choice import score
from jaxcram.evaluate.settings import CRAM, TaskSettings, task_settings
from jaxcram.experiments.contexts import Crammed, cost_of_crams
from jaxcram.experiments.experiment import Experiment, Grouping, Rows, by_group
from jaxcram.experiments.generation import Questions, answer, questions
from jaxcram.experiments.subjects import Subjects, of_task
from jaxcram.loading import Model
from jaxcram.options import EvaluationOptions, shows_options
from jaxcram.results import identity
from jaxcram.results.answers import ANSWERS
from jaxcram.results.directory import RunDirectory
from jaxcram.results.scores import SCORES
from jaxcram.results.shards import ShardFormat
from jaxcram.runs import Run

if TYPE_CHECKING:
    import pyarrow as pa

EVALUATION = identity.RunKind("evaluate", (SCORES.name,), identity.agreed)
GENERATION = identity.RunKind("evaluate", (ANSWERS.name,), identity.agreed)
_SCORED = Grouping((SCORES,), size=64, done="scored")


class Evaluation(Experiment):
    """A finished evaluation on disk."""

    kind, noun = EVALUATION, "an evaluation"

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
        of = "{task}, {items} items".format(**self.summary)
        if self.summary.get("converged") is not None:  # not where nothing was crammed
            of += f", {self.summary['converged']} converged"
        return f"Evaluation({str(self.path)!r}: {of})"


load_evaluation = Evaluation.load


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
    items, of_cram = task_settings(task, options)
    if items.generative is not None:
        return _generated(path, questions(model, items, settings, of_cram), verbose, checkpoint_minutes)
    subjects = of_task(model, items, settings, of_cram)
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
    """Scores the items that have no scores yet, and writes the summary."""

    def scores(members: list[int]) -> dict[ShardFormat, Rows]:
        return {SCORES: _rows(subjects, crammed, members)}

    by_group(directory, subjects.ids, _SCORED, scores, bar.tell)
    processes.from_first(lambda: directory.write_summary(_summary(directory, subjects)))


def _rows(subjects: Subjects, crammed: Crammed, members: Sequence[int]) -> Rows:
    """The rows of a group of items; an item without an embedding has scores of the text alone only."""
    assert subjects.items is not None
    choices, decoder = subjects.items.choices, subjects.model.decoder
    usable = [i for i in members if crammed.usable_I[i]]
    scores = score(decoder, [choices[i] for i in usable], crammed.mem_IxKxD[usable])
    scores += score(decoder, [choices[i] for i in members if not crammed.usable_I[i]])
    converged = {choices[i].id: bool(crammed.converged_I[i]) for i in members}
    subjects_of = {choices[i].id: subjects.items.items[i].subject for i in members}
    jobs = dict(zip(subjects.ids, crammed.jobs, strict=True))
    return summary.rows_of(scores, jobs, converged, subjects_of)


def _summary(directory: RunDirectory, subjects: Subjects) -> dict[str, Any]:
    rows = SCORES.read_shards(directory.path / SCORES.name, None).to_pylist()
    return {
        "task": subjects.task,
        "model": subjects.model.name,
        **summary.summarise(*summary.scores_of(rows)),
        **cost_of_crams(directory),
    }
