"""A run from whatever its directory holds to its summary: the missing lanes, then all decoded back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxcram import processes, results
from jaxcram.compilation import CompileTime
from jaxcram.cram import run as engine
from jaxcram.cram import verify
from jaxcram.cram.checkpoint import Checkpoints
from jaxcram.cram.interruption import StopRequest
from jaxcram.cram.profile import Profile
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.snapshot import Snapshot
from jaxcram.cram.start import jobs_of
from jaxcram.devices import configuration
from jaxcram.errors import Interrupted
from jaxcram.models.decoder import Decoder
from jaxcram.results import RunDirectory
from jaxcram.text import Sample


class Show(Protocol):
    """Who shows a person the run."""

    def tell(self, line: str) -> None:
        """Show a line by itself."""

    def __call__(self, progress: engine.Progress, directory: RunDirectory) -> None:
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
    profile: Profile
    checkpoint_minutes: float


def complete(directory: RunDirectory, task: Task, show: Show) -> None:
    """Run the lanes that have no rows yet; then decode all and write the summary.

    Args:
        directory: where rows, log, checkpoints and summary go; of several processes each writes the rows of
            its share of the lanes, and process 0 the rest.
        task: what is to be done.
        show: called after every chunk, and told what takes its time before there is one.

    Raises:
        Interrupted: SIGINT, SIGTERM or a notice of preemption came; the lanes under way are saved.
        StoppedError: the disk does not take what is to be written.
    """
    # What is on disk may look different to each process for a moment: all go by what process 0 sees.
    keys, summarised = processes.from_first(
        lambda: (sorted(directory.finished_jobs()), (directory.path / "summary.json").exists())
    )
    finished = set(keys)
    jobs = jobs_of(task.samples, task.settings)
    missing = [job for job in jobs if job.key not in finished]
    checkpoints = Checkpoints(directory, task.checkpoint_minutes)
    if not missing and summarised:
        checkpoints.remove()
        return
    with CompileTime() as compile_time, checkpoints:
        saved = checkpoints.newest()
        spent = _Spent(compile_time, saved)
        outcomes = _stored(directory, task, finished) if finished else {}
        if missing:
            if summarised:
                processes.from_first(directory.remove_summary)
            show.tell(f"cramming into {directory.path}")
            run = engine.Run(task.decoder, task.samples, task.settings, missing, len(jobs), saved, show.tell)
            spent.progress = run.progress
            event = {"event": "start", "lanes": len(missing), "resumed": len(saved.lanes) if saved else 0}
            directory.log(event | {"token_budget": run.progress.token_budget, "remat": run.progress.remat})
            outcomes |= _run(run, directory, task, show, checkpoints, spent)
        ordered = [outcomes[job.key] for job in jobs]
        tokens = {sample.sample_id: sample.tokens for sample in task.samples}
        decoded = verify.decode_outcomes(task.decoder, ordered, tokens)
        lanes = [
            {"kind": task.kinds[outcome.job.sample_id]}
            | verify.lane_summary(outcome, decoded.get(i), tokens[outcome.job.sample_id])
            for i, outcome in enumerate(ordered)
        ]
    totals = spent.totals()
    useful, paid = totals.pop("useful_tokens"), totals.pop("paid_tokens")
    summary = {
        "lanes": lanes,
        "example": _example(ordered, decoded, tokens, task.to_text),
        **totals,
        "useful_share": useful / paid if paid else None,
        "token_budget": spent.progress.token_budget,
        "remat": spent.progress.remat,
        "model": task.name,
        "mode": task.settings.stages.mode,
        "versions": _versions(),
        "compiler": configuration.recorded(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }
    with processes.together():
        pass  # all rows are on disk before there is a summary
    processes.from_first(lambda: directory.write_summary(summary))
    checkpoints.remove()


class _Spent:
    """What a run has cost: in this start, and in those before up to the checkpoint that it goes on from."""

    def __init__(self, compile_time: CompileTime, saved: Snapshot | None) -> None:
        fit = (saved.fit.cost.token_budget, saved.fit.remat) if saved else (0, False)
        self.progress = engine.Progress(0, 0, *fit)
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


def _run(
    run: engine.Run,
    directory: RunDirectory,
    task: Task,
    show: Show,
    checkpoints: Checkpoints,
    spent: _Spent,
) -> dict[str, Outcome]:
    """Outcomes of the run's lanes by key; the rows of each are on disk as soon as it has ended.

    Every process has all rows, from the replicated results, and writes its share of them.
    """
    outcomes = {}
    by_id = {sample.sample_id: sample for sample in task.samples}
    jobs = jobs_of(task.samples, task.settings)
    own = {job.key for job in jobs[processes.number() :: processes.count()]}
    of_others: set[str] = set()  # lanes that have ended, since the last checkpoint
    with task.profile as profile, StopRequest() as request:
        for ended in run.chunks(lambda now: show(now, directory)):
            for outcome, rows in ended:
                sample = by_id[outcome.job.sample_id]
                rows[0] = {**rows[0], "text": sample.text, "target_ids": sample.tokens}
                if outcome.job.key in own:
                    directory.write_lane(outcome.job, rows)
                elif processes.number() == 0:
                    of_others.add(outcome.job.key)
                directory.log({"event": "lane", "lane": outcome.job.key, "horizon": outcome.horizon})
                outcomes[outcome.job.key] = outcome
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


def _stored(directory: RunDirectory, task: Task, finished: set[str]) -> dict[str, Outcome]:
    """Outcomes of the lanes that an earlier start has finished."""
    mode = task.settings.stages.mode
    lanes = results.load_lanes(directory.path)
    return {job.key: Outcome.of_table(table, mode) for job, table in lanes if job.key in finished}


def _example(
    outcomes: list[Outcome],
    decoded: dict[int, dict[str, np.ndarray]],
    tokens: dict[int, np.ndarray],
    to_text: Callable[[Sequence[int]], str],
) -> dict[str, Any] | None:
    """The lane with the longest horizon as text: what was asked for and what came back."""
    if not decoded:
        return None
    best = max(decoded, key=lambda i: outcomes[i].horizon)
    outcome = outcomes[best]
    original = tokens[outcome.job.sample_id][: outcome.decode_tokens]
    return {
        "sample_id": outcome.job.sample_id,
        "learning_rate": outcome.job.learning_rate,
        "seed": outcome.job.seed,
        "original": to_text(original.tolist()),
        "decoded": to_text(decoded[best]["exact"].tolist()),
        "identical": bool(np.array_equal(original, decoded[best]["exact"])),
    }


def _versions() -> dict[str, str]:
    packages = ("jaxcram", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
