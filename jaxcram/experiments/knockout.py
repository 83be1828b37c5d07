"""`jaxcram knockout` on disk: what barring the text from the memory at some layers does to it.

    settings.json      as of every run, with `program` "knockout"
    crams/             the run that crams the contexts, unless the embeddings come from another run
    sweep/, masses/    Parquet, many items a file (`jaxcram.results.sweeps`)
    log.jsonl          events
    summary.json       what was found (`jaxcram.evaluate.knockout_summary`)

The same call resumes all of it, and may bring more items.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from jaxcram import documents, report
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import begin, open_experiment
from jaxcram.devices import configuration, processes
from jaxcram.errors import UserError
from jaxcram.evaluate.accuracy import NORMALIZATIONS
from jaxcram.evaluate.attention import masses
from jaxcram.evaluate.knockout import Sweep, sweep
from jaxcram.evaluate.knockout_effects import Effect, effects, text_effects
from jaxcram.evaluate.knockout_summary import summarise
from jaxcram.evaluate.settings import CRAM, KnockoutSettings, TaskSettings, taken, task_settings
from jaxcram.experiments.contexts import Crammed
from jaxcram.experiments.experiment import Experiment, Grouping, Rows, by_group
from jaxcram.experiments.subjects import Subjects, of_run, of_task
from jaxcram.loading import Model
from jaxcram.options import KnockoutOptions, shows_options
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.shards import ShardFormat
from jaxcram.results.sweeps import MASSES, SWEEP
from jaxcram.results.table import Job, Row
from jaxcram.runs import Run

if TYPE_CHECKING:
    import pyarrow as pa

KNOCKOUT = identity.RunKind("knockout", (SWEEP.name, MASSES.name), identity.agreed)
_GROUP_ROWS = 1_280  # items times conditions that are computed together and share a file


class Knockout(Experiment):
    """A finished knockout run on disk."""

    kind, noun = KNOCKOUT, "a knockout"

    def sweep(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Every item under every condition, an Arrow table (`results.sweeps.SWEEP_COLUMNS`)."""
        return SWEEP.read_shards(self.path / SWEEP.name, columns)

    def masses(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Attention masses of every item and layer, an Arrow table (`results.sweeps.MASS_COLUMNS`)."""
        return MASSES.read_shards(self.path / MASSES.name, columns)

    def table(self) -> str:
        """Accuracies by condition, and attention masses by layer."""
        return report.knockout(self.summary)

    def __repr__(self) -> str:
        counted = "{items} items of {task}, {num_layers} layers".format(**self.summary)
        return f"Knockout({str(self.path)!r}: {counted})"


load_knockout = Knockout.load


@shows_options(KnockoutOptions, CRAM, TaskSettings(), KnockoutSettings())
@configuration.pinned()
def knockout(
    model: Model | str | os.PathLike[str] | None = None,
    run: Run | Experiment | str | os.PathLike[str] | None = None,
    *,
    task: str | TaskSettings | None = None,
    conditions: KnockoutSettings = KnockoutSettings(),  # noqa: B008 (frozen)
    out: str | os.PathLike[str] | None = None,
    settings: CramSettings | None = None,
    verbose: bool = True,
    checkpoint_minutes: float = 10.0,
    **options: Unpack[KnockoutOptions],
) -> Knockout:
    """Bar the text from its crammed embedding at some layers, and see what it still reproduces and answers.

        found = api.knockout(None, "runs/cloze")              # the items of an evaluation
        found = api.knockout(model, task="cloze", limit=64)   # crams them first

    Args:
        model: a loaded model, its directory or Hub name; None is that of `run`, or the bundled one.
        run: a finished evaluation, or a run of cram, of which only the reconstruction is measured; or its
            directory.
        task: name of a task or its settings, whose contexts are crammed first; give this or `run`.
        conditions: under which layers are barred.
        out: the directory; None makes a fresh one under `runs/`.
        settings: how contexts are crammed.
        verbose: show progress on stderr.
        checkpoint_minutes: between two checkpoints of the contexts under way; 0 makes none.
        options: single fields of `TaskSettings` and `KnockoutSettings`, and settings of `api.cram`, by name;
            of a run only `limit` and `samples`, which take some of its items.

    Raises:
        UserError: bad input, before anything is computed or written.
        StoppedError, Interrupted: as `api.cram`.
    """
    path = begin(out, checkpoint_minutes)
    of_conditions, rest = taken(options, KnockoutSettings)
    conditions = dataclasses.replace(conditions, **of_conditions)
    if (run is None) == (task is None):
        raise UserError("a knockout needs a run or a task; give one of them")
    if task is not None:
        items, rest = task_settings(task, rest)
        subjects = of_task(model, items, settings, rest)
    else:
        subjects = _of_run(run, model, rest)
    wanted = sweep(subjects.model.decoder.config.num_layers, conditions.protocols, conditions.sets)
    recorded = {**subjects.recorded, **documents.plain(dataclasses.asdict(conditions))}
    if subjects.crammed is not None:
        _require_usable(subjects.recorded["run"], subjects.crammed)
    with open_experiment(path, recorded, KNOCKOUT) as directory:
        crammed = subjects.embeddings(directory, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
        with report.Bar(verbose and processes.number() == 0) as bar:
            _measure(directory, subjects, crammed, (wanted, conditions), bar)
        return Knockout(directory.path)


def _of_run(
    run: Run | Experiment | str | os.PathLike[str] | None,
    model: Model | str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Subjects:
    assert run is not None
    if other := options.keys() - {"limit", "samples"}:
        raise UserError(f"{min(other)}: {run} was crammed already; leave it out, or give a task")
    return of_run(run, model, **options)


def _require_usable(run: str | os.PathLike[str], crammed: Crammed) -> None:
    if not crammed.usable_I.any():
        raise UserError(
            f"{run}: no sample has an embedding to knock out: nothing of any became exact, or all lanes "
            "diverged; cram again with more max_steps or other learning_rates"
        )


def _measure(
    directory: RunDirectory,
    subjects: Subjects,
    crammed: Crammed,
    wanted: tuple[Sweep, KnockoutSettings],
    bar: report.Bar,
) -> None:
    """Measures the items that have no rows yet, group by group, and writes the summary."""
    conditions, settings = wanted
    usable = np.flatnonzero(crammed.usable_I)
    _require_usable(directory.path / "crams", crammed)
    left_out = sorted(subjects.ids[i] for i in np.flatnonzero(~crammed.usable_I))

    def rows(members: list[int]) -> dict[ShardFormat, Rows]:
        return _rows(subjects, crammed, usable[members].tolist(), conditions, settings)

    size = max(1, _GROUP_ROWS // len(conditions.names))
    ids = [subjects.ids[i] for i in usable]
    by_group(directory, ids, Grouping((MASSES, SWEEP), size, "measured"), rows, bar.tell)
    processes.from_first(
        lambda: directory.write_summary({**_summary(directory, subjects, *wanted), "left_out": left_out})
    )


def _rows(
    subjects: Subjects,
    crammed: Crammed,
    members: Sequence[int],
    conditions: Sweep,
    settings: KnockoutSettings,
) -> dict[ShardFormat, Rows]:
    """The rows of a group of items in both tables."""
    decoder, mem_IxKxD = subjects.model.decoder, crammed.mem_IxKxD[members]
    targets = [subjects.targets[i] for i in members]
    jobs = {subjects.ids[i]: crammed.jobs[i] for i in members}
    converged = {subjects.ids[i]: bool(crammed.converged_I[i]) for i in members}
    rows: dict[Job, list[Row]] = {job: [] for job in jobs.values()}
    for own_row in (False, True)[: 1 + settings.own_row]:
        if subjects.choices is None:
            by_id = dict(zip(jobs, targets, strict=True))
            found = text_effects(decoder, by_id, mem_IxKxD, conditions, own_row=own_row)
        else:
            choices = [subjects.choices[i] for i in members]
            found = effects(decoder, choices, mem_IxKxD, conditions, scored=settings.scored, own_row=own_row)
        for effect in found:
            of_job = rows[jobs[effect.item]]
            of_job.append(
                {
                    "condition_index": len(of_job),
                    "condition": effect.condition,
                    "own_row": own_row,
                    "tf_accuracy": None if np.isnan(effect.tf_accuracy) else effect.tf_accuracy,
                    "log_probs": list(effect.log_probs) or None,
                    **{f"right_{by}": right for by, right in effect.right.items()},
                    "converged": converged[effect.item],
                }
            )
    memory_IxL, bos_IxL = masses(decoder, targets, mem_IxKxD), masses(decoder, targets)
    of_mass = {
        job: [
            {"layer": layer, "memory_mass": float(mass), "bos_mass": None if np.isnan(bos) else float(bos)}
            for layer, (mass, bos) in enumerate(zip(memory_L, bos_L, strict=True))
        ]
        for job, memory_L, bos_L in zip(jobs.values(), memory_IxL, bos_IxL, strict=True)
    }
    return {MASSES: of_mass, SWEEP: rows}


def _summary(
    directory: RunDirectory, subjects: Subjects, conditions: Sweep, settings: KnockoutSettings
) -> dict[str, Any]:
    rows = SWEEP.read_shards(directory.path / SWEEP.name, None).to_pylist()
    of_mass = MASSES.read_shards(directory.path / MASSES.name, None).to_pylist()
    num_layers = conditions.layers_CxL.shape[1]
    memory_IxL, bos_IxL = (
        np.asarray([row[name] for row in of_mass], np.float64).reshape(-1, num_layers)
        for name in ("memory_mass", "bos_mass")
    )

    def found(own_row: bool) -> dict[str, Any]:
        of = [_effect(row) for row in rows if row["own_row"] == own_row]
        return summarise(conditions, of, memory_IxL, bos_IxL)

    whole = found(False)
    converged = {row["sample_id"]: row["converged"] for row in rows}
    summary = {
        "task": subjects.task,
        "model": subjects.model.name,
        "scored": settings.scored,
        "num_layers": num_layers,
        **whole,
        "converged": sum(converged.values()),
    }
    if settings.own_row:
        # The reference and the masses bar nothing, so they are the same.
        other = found(True)
        summary["own_row"] = {protocol: other[protocol] for protocol in conditions.protocols}
    return summary


def _effect(row: Row) -> Effect:
    """What a row of the table says."""
    right = {by: row[f"right_{by}"] for by in NORMALIZATIONS}
    return Effect(
        item=row["sample_id"],
        condition=row["condition"],
        tf_accuracy=np.nan if row["tf_accuracy"] is None else row["tf_accuracy"],
        log_probs=tuple(row["log_probs"] or ()),
        right={} if None in right.values() else right,
    )
