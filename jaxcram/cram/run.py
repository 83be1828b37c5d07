"""A run on the host: prepare, loop, decode, summarise. The loop over passes itself is `cram.engine`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxcram.cram import summary, verify
from jaxcram.cram.engine import Engine
from jaxcram.cram.fit import Fit, fit_of_json, fit_run, known_fit
from jaxcram.cram.outline import Outline, outline
from jaxcram.cram.profile import Profile
from jaxcram.cram.progress import Progress
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.snapshot import Snapshot, lane_checkpoints
from jaxcram.cram.start import jobs_of
from jaxcram.devices import configuration, processes
from jaxcram.devices.compilation import CompileTime
from jaxcram.devices.interruption import StopRequest
from jaxcram.errors import Interrupted
from jaxcram.models.decoder import Decoder
from jaxcram.results.checkpoint import Checkpoints
from jaxcram.results.directory import RunDirectory, stored_plan
from jaxcram.results.reading import load_lanes
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample


class Show(Protocol):
    """Who shows a person the run."""

    def begin(self, plan: Outline) -> None:
        """Show what the run is going to do."""

    def tell(self, line: str) -> None:
        """Show a line by itself."""

    def __call__(self, progress: Progress, directory: RunDirectory) -> None:
        """Show the state after a chunk."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is to be done.

    Attributes:
        decoder: the frozen model; name: what it was loaded by.
        samples: the targets; kinds: what each text is, by sample id.
        settings: the procedure.
        to_text: token ids to text.
        checkpoint_minutes: between two checkpoints of the lanes under way; 0 makes none.
        profile: traces a few chunks, if it has a place for that.
    """

    decoder: Decoder
    name: str
    samples: list[Sample]
    kinds: dict[int, str]
    settings: CramSettings
    to_text: Callable[[Sequence[int]], str]
    profile: Profile = dataclasses.field(default_factory=lambda: Profile(None))
    checkpoint_minutes: float = 0.0


def complete(directory: RunDirectory, task: Task, show: Show) -> None:
    """Prepare, loop, decode, summarise: a run from whatever its directory holds to its summary.

    Args:
        directory: where rows, log, checkpoints and summary go; of several processes each writes the rows of
            its share of the lanes, and process 0 the rest.
        task: what is to be done.
        show: called after every chunk, and before whatever takes its time.

    Raises:
        Interrupted: SIGINT, SIGTERM or a notice of preemption came; the lanes under way are saved.
        StoppedError: the disk does not take what is to be written.
    """
    with CompileTime() as compile_time, lane_checkpoints(directory, task.checkpoint_minutes) as checkpoints:
        if work := _prepare(directory, task, checkpoints):
            spent = _Spent(compile_time, work.saved)
            outcomes = work.finished | _loop(directory, task, work, show, checkpoints, spent)
            ordered = [outcomes[job.key] for job in work.jobs]
            show.tell(f"decoding {len(ordered)} lanes back")
            tokens = {sample.sample_id: sample.tokens for sample in task.samples}
            decoded = verify.decode_outcomes(task.decoder, ordered, tokens)
            with processes.together():
                pass  # all rows are on disk before there is a summary
            values = _summarise(task, ordered, decoded, spent, stored_fit(directory.path))
            processes.from_first(lambda: directory.write_summary(values))
    checkpoints.remove()


class _Work(NamedTuple):
    """What a directory leaves to be done.

    Attributes:
        jobs: all lanes of the run; missing: those without rows.
        finished: outcomes of the others, by key.
        saved: lanes that were under way at the newest checkpoint.
    """

    jobs: list[Job]
    missing: list[Job]
    finished: dict[str, Outcome]
    saved: Snapshot | None


def _prepare(directory: RunDirectory, task: Task, checkpoints: Checkpoints[Snapshot]) -> _Work | None:
    """What is to be done; None where everything is."""
    # What is on disk may look different to each process for a moment: all go by what process 0 sees.
    keys, summarised = processes.from_first(
        lambda: (sorted(directory.finished_jobs()), (directory.path / "summary.json").exists())
    )
    jobs = jobs_of(task.samples, task.settings)
    done = set(keys)
    missing = [job for job in jobs if job.key not in done]
    if summarised and not missing:
        return None
    if summarised:
        processes.from_first(directory.remove_summary)
    saved, mode = checkpoints.newest(), task.settings.stages.mode
    stored = load_lanes(directory.path) if done else ()
    finished = {job.key: Outcome.of_table(table, mode) for job, table in stored if job.key in done}
    return _Work(jobs, missing, finished, saved)


def _loop(
    directory: RunDirectory,
    task: Task,
    work: _Work,
    show: Show,
    checkpoints: Checkpoints[Snapshot],
    spent: _Spent,
) -> dict[str, Outcome]:
    """Outcomes of the missing lanes by key; the rows of each are on disk as soon as it has ended.

    Every process has all rows, from the replicated results, and writes its share of them.
    """
    outcomes: dict[str, Outcome] = {}
    if not work.missing:
        return outcomes
    fit = _fitted(directory, task, show)
    show.begin(plan_of(directory.path, task, len(work.finished), work.saved).planned(fit))
    run = Engine(task.decoder, task.samples, task.settings, work.missing, fit, work.saved)
    run.progress.lanes = len(work.jobs)
    run.progress.exact_tokens += sum(outcome.horizon for outcome in work.finished.values())
    spent.progress = run.progress
    directory.log(_start_event(run.progress, len(work.missing), work.saved))
    by_id = {sample.sample_id: sample for sample in task.samples}
    own = {job.key for job in work.jobs[processes.number() :: processes.count()]}
    of_others: set[str] = set()  # lanes that have ended, since the last checkpoint
    with task.profile as profile, StopRequest() as request:
        for ended in run.chunks(lambda now: show(now, directory)):
            for outcome, rows, curve in ended:
                sample = by_id[outcome.job.sample_id]
                rows[0] = {**rows[0], "text": sample.text, "target_ids": sample.tokens}
                if outcome.job.key in own:
                    directory.write_lane(outcome.job, rows, curve)
                elif processes.number() == 0:
                    of_others.add(outcome.job.key)
                directory.log({"event": "lane", "lane": outcome.job.key, **outcome.in_brief()})
                outcomes[outcome.job.key] = outcome
            if run.fit != fit:  # device memory ran out
                fit = run.fit
                directory.write_plan(dataclasses.asdict(fit))
            profile.after_chunk()
            stop = request.after_chunk()
            if processes.number() == 0 and (checkpoints.due or (stop and checkpoints.wanted)):
                directory.await_lanes(of_others)  # a checkpoint knows nothing of lanes that have ended
                of_others.clear()
                checkpoints.save(run.snapshot(spent.totals()))
                directory.log({"event": "checkpoint", "lanes": run.progress.alive})
            if stop:
                checkpoints.close()
                raise Interrupted(directory.path, stop)
    return outcomes


def _summarise(
    task: Task,
    outcomes: list[Outcome],
    decoded: dict[int, dict[str, np.ndarray]],
    spent: _Spent,
    fit: Fit | None,
) -> dict[str, Any]:
    """What summary.json says."""
    totals = spent.totals()
    useful, paid = totals.pop("useful_tokens"), totals.pop("paid_tokens")
    return {
        **summary.of_lanes(outcomes, decoded, task.samples, task.kinds, task.to_text),
        **totals,
        "useful_share": useful / paid if paid else None,
        "token_budget": fit and fit.plan.token_budget,
        "remat": fit and fit.remat,
        "model": task.name,
        "mode": task.settings.stages.mode,
        "versions": summary.versions(),
        "compiler": configuration.recorded(),
        "devices": summary.devices(),
    }


def _fitted(directory: RunDirectory, task: Task, show: Show) -> Fit:
    """How the run is fitted to its devices: as at its first start, if that still serves."""
    before = stored_fit(directory.path)
    lengths = [len(sample.tokens) for sample in task.samples]
    fit = fit_run(task.decoder, task.settings, lengths, before, show.tell)
    if fit != before:
        if before:
            show.tell("other devices, texts or settings of speed: what is unfinished goes on in other passes")
        processes.from_first(lambda: directory.write_plan(dataclasses.asdict(fit)))
    return fit


def stored_fit(path: Path) -> Fit | None:
    """How the run in a directory is fitted to its devices; None if that is still to be chosen."""
    return fit_of_json(processes.from_first(lambda: stored_plan(path)))


def plan_of(out: str | Path, task: Task, finished: int, saved: Snapshot | None = None) -> Outline:
    """What a task is going to do in a directory where so many lanes are finished, and some were saved."""
    return outline(str(out), (task.name, task.decoder), task.samples, task.settings, finished, saved)


def foreseen(task: Task, path: Path | None) -> Fit | None:
    """How a start would fit a task to its devices; None if it would have to measure that first."""
    lengths = [len(sample.tokens) for sample in task.samples]
    return known_fit(task.decoder, task.settings, lengths, stored_fit(path) if path else None)


def _start_event(progress: Progress, missing: int, saved: Snapshot | None) -> dict[str, Any]:
    """What the log says of a start, the lanes under way apart."""
    return {
        "event": "start",
        "lanes": missing,
        "lanes_in_all": progress.lanes,
        "resumed": len(saved.lanes) if saved else 0,
        "token_budget": progress.token_budget,
        "remat": progress.remat,
        "versions": summary.versions(),
        "devices": summary.devices(),
    }


class _Spent:
    """What a run has cost: in this start, and in those before up to the checkpoint that it goes on from."""

    def __init__(self, compile_time: CompileTime, saved: Snapshot | None) -> None:
        self.progress = Progress(0, 0, 0, remat=False)
        self._start = time.perf_counter()
        self._compile_time = compile_time
        self._before = saved.totals if saved else {}

    def totals(self) -> dict[str, float]:
        """By the names of summary.json."""
        now = {
            "wall_s": time.perf_counter() - self._start,
            "compile_s": self._compile_time.spent_s,
            "compile_saved_s": self._compile_time.saved_s,
            "passes": self.progress.passes,
            "lane_steps": self.progress.lane_steps,
            "useful_tokens": self.progress.useful_tokens,
            "paid_tokens": self.progress.paid_tokens,
        }
        return {name: value + self._before.get(name, 0) for name, value in now.items()}
