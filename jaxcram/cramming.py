"""Cramming samples into a run directory: what `api.cram` and the evaluations share."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcram import report
from jaxcram.cram.profile import Profile
from jaxcram.cram.run import Task, complete
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import environment, processes
from jaxcram.devices.mesh import MeshShape
from jaxcram.devices.mesh import of as mesh_of
from jaxcram.errors import UserError
from jaxcram.loading import Model
from jaxcram.results import identity
from jaxcram.results.curves import CURVES
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import expanded
from jaxcram.results.rows import ROWS
from jaxcram.runs import Run
from jaxcram.text.sources import TextSettings, kind_of
from jaxcram.text.tokens import Sample


class Prepared(NamedTuple):
    """A run before it is opened.

    Attributes:
        task: what is to be done.
        recorded: the settings that settings.json records.
        constants: the columns that are the same in all its rows.
    """

    task: Task
    recorded: dict[str, Any]
    constants: dict[str, Any]


def prepare(model: Model, samples: list[Sample], source: TextSettings, settings: CramSettings) -> Prepared:
    """The run that crams samples.

    Args:
        model: a loaded model.
        samples: the targets.
        source: where they come from, as the run records it.
        settings: the procedure.
    """
    dtype = str(np.dtype(model.decoder.dtype))
    targets = {sample.sample_id: (sample.text, sample.tokens) for sample in samples}
    recorded = {
        **settings.resolved(model=model.name, dtype=dtype, **dataclasses.asdict(source)),
        identity.CONTENTS: identity.contents(model.contents, targets),
    }
    if compiler := environment.compiler_variables(os.environ):  # what is absent is the default
        recorded["compiler"] = compiler
    task = Task(
        decoder=model.decoder,
        name=model.name,
        samples=samples,
        kinds={sample.sample_id: kind_of(source.texts, sample.sample_id) for sample in samples},
        settings=settings,
        to_text=model.tokenizer.decode,
    )
    return Prepared(task, recorded, _constants(model, settings))


def carry_out(
    prepared: Prepared,
    out: str | os.PathLike[str],
    *,
    verbose: bool,
    checkpoint_minutes: float,
    profile: Profile | None = None,
    compact: bool = False,
) -> Run:
    """Crams, decodes back, and leaves rows and summary in a directory; what is there already is kept.

    Args:
        prepared: the run.
        out: its directory.
        verbose: show progress on stderr.
        checkpoint_minutes: between two checkpoints of the lanes under way; 0 makes none.
        profile: traces a few chunks, if it has a place for that.
        compact: gather the rows of all lanes in few files at the end.

    Raises:
        UserError, StoppedError, Interrupted: as `jaxcram.api.cram`.
    """
    task = dataclasses.replace(
        prepared.task, checkpoint_minutes=checkpoint_minutes, profile=profile or Profile(None)
    )
    with (
        open_run(os.fspath(out), prepared.recorded, prepared.constants) as directory,
        report.Bar(verbose and processes.number() == 0) as bar,
    ):
        complete(directory, task, bar)
        if compact and processes.number() == 0:
            for table in (ROWS, CURVES):
                directory.compact(table)
        with processes.together():
            pass
        return Run(directory.path)


def begin(out: str | os.PathLike[str] | None, checkpoint_minutes: float) -> str:
    """The directory of a run that is about to start, the same in all processes; checks what every run has.

    Args:
        out: as a person gave it; None makes a fresh name under `runs/`.
        checkpoint_minutes: between two checkpoints.

    Raises:
        UserError: the minutes are out of range, or the path cannot be one.
    """
    if not 0 <= checkpoint_minutes < float("inf"):
        raise UserError(f"checkpoint_minutes {checkpoint_minutes} must be a number from 0, which makes none")
    logging.getLogger("jaxcram.texts").disabled = processes.number() > 0  # process 0 tells it
    return processes.from_first(lambda: str(expanded(out or _fresh_directory())))


def open_run(
    path: str,
    recorded: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
    kind: identity.RunKind = identity.LANES,
) -> RunDirectory:
    """The run directory, which process 0 opens; the others join it there."""
    defaults = CramSettings().resolved()
    with processes.together():
        if processes.number() == 0:
            directory = RunDirectory.open(path, recorded, constants, defaults, kind)
    with processes.together():
        if processes.number() > 0:
            directory = RunDirectory.join(path, recorded, constants, defaults, kind)
    return directory


def _fresh_directory() -> Path:
    name = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path, number = Path("runs", name), 2
    while path.exists():
        path, number = Path("runs", f"{name}-{number}"), number + 1
    return path


def _constants(model: Model, settings: CramSettings) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "num_compression_tokens": settings.num_memory,
        "hidden_size": model.decoder.config.width,
        "loss_type": settings.objective.loss,
        "dtype": str(np.dtype(model.decoder.dtype)),
        "model_checkpoint": os.fsencode(model.name).decode(errors="replace"),
        "weights_digest": model.contents.get("weights"),
        "max_optimization_steps_per_sample": settings.stages.max_steps,
        "convergence_threshold": settings.stages.full_threshold,
        "platform": device.platform,
        "device_kind": device.device_kind,
        "mesh": str(MeshShape(**mesh_of(model.decoder).shape)),
    }
