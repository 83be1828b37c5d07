"""A run from whatever its directory holds to its summary: the missing lanes, then all decoded back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcram import results
from jaxcram.compilation import CompileTime
from jaxcram.cram import run as engine
from jaxcram.cram import verify
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.models.decoder import Decoder
from jaxcram.results import RunDirectory
from jaxcram.text import Sample

Show = Callable[[engine.Progress, RunDirectory], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is to be done.

    Attributes:
        decoder: the frozen model; name: what it was loaded by.
        samples: the targets; kinds: what each text is, by sample id.
        settings: the procedure.
        to_text: token ids to text.
    """

    decoder: Decoder
    name: str
    samples: list[Sample]
    kinds: dict[int, str]
    settings: CramSettings
    to_text: Callable[[Sequence[int]], str]


def complete(directory: RunDirectory, task: Task, show: Show) -> None:
    """Run the lanes that have no rows yet; then decode all and write the summary.

    Args:
        directory: where rows, log and summary go.
        task: what is to be done.
        show: called after every chunk.
    """
    start = time.perf_counter()
    finished = directory.finished_jobs()
    jobs = engine.jobs_of(task.samples, task.settings)
    missing = [job for job in jobs if job.key not in finished]
    if not missing and (directory.path / "summary.json").exists():
        return
    with CompileTime() as compile_time:
        progress = engine.Progress(lanes=0, alive=0, token_budget=task.settings.token_budget)
        outcomes = _stored(directory, task, finished) if finished else {}
        if missing:
            run = engine.Run(task.decoder, task.samples, task.settings, missing, len(jobs))
            progress = run.progress
            directory.log({"event": "start", "lanes": len(missing), "token_budget": progress.token_budget})
            outcomes |= _run(run, directory, task, show)
        ordered = [outcomes[job.key] for job in jobs]
        tokens = {sample.sample_id: sample.tokens for sample in task.samples}
        decoded = verify.decode_outcomes(task.decoder, ordered, tokens)
        lanes = [
            {"kind": task.kinds[outcome.job.sample_id]}
            | verify.lane_summary(outcome, decoded.get(i), tokens[outcome.job.sample_id])
            for i, outcome in enumerate(ordered)
        ]
    directory.write_summary(
        {
            "lanes": lanes,
            "example": _example(ordered, decoded, tokens, task.to_text),
            "wall_s": time.perf_counter() - start,
            "compile_s": compile_time.spent_s,
            "compile_saved_s": compile_time.saved_s,
            "passes": progress.passes,
            "lane_steps": progress.lane_steps,
            "useful_share": progress.useful_tokens / progress.paid_tokens if progress.paid_tokens else None,
            "token_budget": progress.token_budget,
            "model": task.name,
            "mode": task.settings.stages.mode,
            "versions": _versions(),
            "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        }
    )


def _run(run: engine.Run, directory: RunDirectory, task: Task, show: Show) -> dict[str, Outcome]:
    """Outcomes of the run's lanes by key; the rows of each are on disk as soon as it has ended."""
    outcomes = {}
    by_id = {sample.sample_id: sample for sample in task.samples}
    for outcome, rows in run.lanes(lambda now: show(now, directory)):
        sample = by_id[outcome.job.sample_id]
        rows[0] = {**rows[0], "text": sample.text, "target_ids": sample.tokens}
        directory.write_lane(outcome.job, rows)
        directory.log({"event": "lane", "lane": outcome.job.key, "horizon": outcome.horizon})
        outcomes[outcome.job.key] = outcome
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
