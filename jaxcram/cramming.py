"""Cramming samples into a run directory: what `api.cram` and the evaluations share."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
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
from jaxcram.errors import Interrupted, UserError
from jaxcram.loading import Model
from jaxcram.results import identity
from jaxcram.results.curves import CURVES
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import expanded, recorded
from jaxcram.results.rows import ROWS
from jaxcram.runs import Run
from jaxcram.text.sources import Text, TextSettings, given_texts, is_keyword, kind_of, load_texts
from jaxcram.text.tokens import Sample, tokenize


def read_texts(
    texts: str | os.PathLike[str] | Iterable[str] | TextSettings, options: Mapping[str, Any]
) -> tuple[TextSettings, list[Text]]:
    """The texts, and where they come from as the run records it."""
    if isinstance(texts, str | os.PathLike | TextSettings):
        source = texts if isinstance(texts, TextSettings) else TextSettings(texts=os.fspath(texts))
        source = dataclasses.replace(source, **options)
        loaded = load_texts(
            source.texts,
            num_samples=source.num_samples,
            offset=source.offset,
            split=source.split,
            column=source.column,
        )
        where = source.texts if is_keyword(source.texts) else recorded(source.texts)
        return dataclasses.replace(source, texts=where), loaded
    if lost := options.keys() - {"max_tokens", "bos"}:
        raise UserError(f"{min(lost)}: the texts are given as a list, which is taken whole; leave it out")
    source, loaded = given_texts(texts)
    return dataclasses.replace(source, **options), loaded


def in_tokens(loaded: list[Text], source: TextSettings, model: Model, settings: CramSettings) -> list[Sample]:
    """The texts in tokens of the model."""
    samples = tokenize(
        loaded,
        model.tokenizer,
        max_tokens=source.max_tokens,
        bos=source.bos,
        max_positions=model.decoder.config.max_positions,
        num_memory=settings.num_memory,
    )
    for sample in samples:
        model.decoder.config.require_ids(sample.tokens, f"sample {sample.sample_id}")
    return samples


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
        if compact:
            for table in (ROWS, CURVES):
                processes.from_first(functools.partial(directory.compact, table))
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


@contextlib.contextmanager
def open_experiment(path: str, recorded: Mapping[str, Any], kind: identity.RunKind) -> Iterator[RunDirectory]:
    """The directory of an experiment, in which runs of cram have directories of their own.

    Raises:
        Interrupted: one of those runs was; it names the experiment, whose command resumes both.
    """
    try:
        with open_run(path, recorded, kind=kind) as directory:
            processes.from_first(directory.remove_summary)  # it may not tell of all items
            yield directory
    except Interrupted as interruption:
        raise Interrupted(expanded(path), interruption.exit_code - 128) from None


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
