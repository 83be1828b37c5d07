"""Finished runs as what is measured of them: their models, and a row a lane."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import StageSettings
from jaxcram.errors import UserError
from jaxcram.evaluate.reconstruction import measure
from jaxcram.evaluate.settings import setup_name
from jaxcram.loading import Model, load_model
from jaxcram.results.reading import load_summary
from jaxcram.results.table import Row
from jaxcram.runs import Run, stored_outcomes

_CONVERGED = ("complete", "converged")  # reasons of a stop


def finished(run: Run | str | os.PathLike[str]) -> Run:
    """A run that is given as such or by its directory; UserError if it is not finished."""
    run = run if isinstance(run, Run) else Run(Path(run))
    if not run.finished:
        load_summary(run.path)  # says what to do
    return run


def with_models(
    runs: Sequence[Run], model: Model | str | os.PathLike[str] | None, mesh: str = "lanes:-1,model:1"
) -> Iterator[tuple[Run, Model]]:
    """Each run with its model, which is loaded once for those that share it."""
    loaded: dict[tuple[str, str], Model] = {}
    for run in runs:
        key = str(model or run.settings["model"]), run.settings["dtype"]
        if not isinstance(model, Model) and key not in loaded:
            loaded[key] = load_model(key[0], dtype=key[1], mesh=mesh)
        yield run, model if isinstance(model, Model) else loaded[key]


def lane_rows(run: Run, model: Model, wanted: Collection[int]) -> list[Row]:
    """The rows of a run, a lane each; a lane that is to reproduce nothing has no more than its names."""
    stored = stored_outcomes(run, model)
    outcomes = [outcome for outcome in stored.outcomes if outcome.job.sample_id in wanted]
    full = [outcome for outcome in outcomes if outcome.row is not None]
    answers = [outcome.row for outcome in full if outcome.row is not None]
    if lost := [row for row in answers if row["embedding"] is None]:
        raise UserError(
            f"{run.path}: sample {lost[0]['sample_id']} has no embedding; cram with trajectory=horizon"
        )
    found = measure(
        model.decoder,
        np.array([row["embedding"] for row in answers], np.float32),
        [stored.targets[outcome.job.sample_id][: outcome.decode_tokens] for outcome in full],
        [(row["bucket_tokens"], row["bucket_lanes"]) for row in answers],
    )
    measured = dict(zip([outcome.job for outcome in full], found, strict=True))
    stages = StageSettings(run.settings["mode"], full_threshold=run.settings.get("full_threshold", 1.0))
    rows = []
    for outcome in outcomes:
        row = _names(outcome, run, model, stages)
        if outcome.job in measured:
            reached_early = stages.full_threshold == 1 or row["enough_tokens"] < row["num_input_tokens"]
            row |= measured[outcome.job].columns(with_after=reached_early)
        rows.append(row)
    return rows


def _names(outcome: Outcome, run: Run, model: Model, stages: StageSettings) -> Row:
    """What a row has before anything is measured."""
    return {
        **vars(outcome.job),
        "setup": setup_name(stages),
        "run": os.fsencode(run.path).decode(errors="replace"),
        "model_checkpoint": os.fsencode(model.name).decode(errors="replace"),
        "num_compression_tokens": run.settings.get("num_memory", 1),
        "num_input_tokens": outcome.target_tokens,
        "tokens": outcome.decode_tokens,
        "enough_tokens": stages.enough(outcome.target_tokens),
        "converged": outcome.stop_reason in _CONVERGED,
        "steps_taken": outcome.steps,
        "stop_reason": outcome.stop_reason,
    }
