"""The package from Python: load a model, cram texts, decode, look at rows. Command lines call the same."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Unpack

import jax
import numpy as np

from jaxcram import report
from jaxcram.cram.profile import Profile
from jaxcram.cram.run import Task, complete, foreseen, plan_of
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import configuration, environment, processes
from jaxcram.devices.mesh import MeshShape
from jaxcram.devices.mesh import of as mesh_of
from jaxcram.errors import UserError
from jaxcram.loading import BUNDLED, Model, load_model
from jaxcram.options import TEXT_OPTIONS, CramOptions, shows_options
from jaxcram.predictions import generate, logits
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory, finished_lanes
from jaxcram.results.paths import expanded, recorded
from jaxcram.runs import DECODERS, Decoded, Run, decode, load_run
from jaxcram.text.sources import Text, TextSettings, given_texts, is_keyword, kind_of, load_texts
from jaxcram.text.tokens import Sample, tokenize

__all__ = [
    "BUNDLED",
    "DECODERS",
    "Decoded",
    "Model",
    "Run",
    "cram",
    "decode",
    "generate",
    "load_model",
    "load_run",
    "load_texts",
    "logits",
    "outline",
]


@shows_options
@configuration.pinned()
def cram(
    model: Model | str | os.PathLike[str] | None = None,
    texts: str | Iterable[str] | TextSettings = TextSettings(),
    *,
    out: str | os.PathLike[str] | None = None,
    settings: CramSettings | None = None,
    verbose: bool = True,
    checkpoint_minutes: float = 10.0,
    profile_dir: str | None = None,
    **options: Unpack[CramOptions],
) -> Run:
    """Cram texts, decode every result back, and leave rows and summary in a directory.

        run = api.cram(model, ["A text.", "Another."], learning_rates=0.1, max_steps=200, mode="full")

    A second call with the same directory runs only the lanes that are missing, and those that were under way
    from their last checkpoint. It may bring more texts, learning rates and seeds; other settings, other
    weights or changed texts are refused.

    Args:
        model: a loaded model, its directory or Hub name, or None for the bundled one.
        texts: the texts themselves, or a source of them (see `TextSettings`).
        out: the run directory; None makes a fresh one under `runs/`.
        settings: the procedure, where it is at hand as a value; None is the published one.
        verbose: show progress on stderr.
        checkpoint_minutes: between two checkpoints of the lanes under way; 0 makes none.
        profile_dir: where to leave a JAX profiler trace of a few chunks; None makes none.
        options: single settings by the names that the flags of `jaxcram cram` have too, such as
            `learning_rates`, `max_steps` or `num_samples`; they go before `settings`. Each is explained at
            `CramSettings`, its parts (`Objective`, `OptimizerSettings`, `StageSettings`) and `TextSettings`.

    Raises:
        UserError: bad input, before anything is computed or written.
        StoppedError: the disk is full or gone; what is whole was kept.
        KeyboardInterrupt: SIGINT or SIGTERM, between two chunks and after a checkpoint (`Interrupted`).
    """
    if not 0 <= checkpoint_minutes < float("inf"):
        raise UserError(f"checkpoint_minutes {checkpoint_minutes} must be a number from 0, which makes none")
    out = processes.from_first(lambda: str(expanded(out or _fresh_directory())))
    logging.getLogger("jaxcram.texts").disabled = processes.number() > 0  # process 0 tells it
    with processes.together():
        profile = Profile(profile_dir)
    task, recorded, constants = _prepare(model, texts, settings, options)
    task = dataclasses.replace(task, checkpoint_minutes=checkpoint_minutes, profile=profile)
    with (
        _open(out, recorded, constants) as directory,
        report.Bar(verbose and processes.number() == 0) as bar,
    ):
        complete(directory, task, bar)
        return Run(directory.path)


@shows_options
def outline(
    model: Model | str | os.PathLike[str] | None = None,
    texts: str | Iterable[str] | TextSettings = TextSettings(),
    *,
    out: str | os.PathLike[str] | None = None,
    settings: CramSettings | None = None,
    **options: Unpack[CramOptions],
) -> str:
    """What `cram` with the same arguments would do, in lines; computes and writes nothing.

    Raises:
        UserError: bad input, as `cram` would refuse it.
    """
    task, recorded, _ = _prepare(model, texts, settings, options)
    with processes.together():
        ended = finished_lanes(out, recorded, CramSettings().resolved()) if out else 0
    path = expanded(out) if out else None
    planned = plan_of(path or "a new directory under runs/", task, ended).planned(foreseen(task, path))
    return "\n".join(report.outline(planned))


def _prepare(
    model: Model | str | os.PathLike[str] | None,
    texts: str | Iterable[str] | TextSettings,
    settings: CramSettings | None,
    options: Mapping[str, Any],
) -> tuple[Task, dict[str, Any], dict[str, Any]]:
    """What is to be done, the settings that record it, and the columns that are the same in all its rows."""
    of_texts = {name: value for name, value in options.items() if name in TEXT_OPTIONS}
    settings = CramSettings.of(settings, **{k: v for k, v in options.items() if k not in TEXT_OPTIONS})
    with processes.together():
        source, loaded = _texts(texts, of_texts)
    model = model if isinstance(model, Model) else load_model(model)
    with processes.together():
        samples = _samples(loaded, source, model, settings)
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
    return task, recorded, _constants(model, settings)


def _open(path: str, settings: dict[str, Any], constants: dict[str, Any]) -> RunDirectory:
    """The run directory, which process 0 opens; the others join it there."""
    defaults = CramSettings().resolved()
    with processes.together():
        if processes.number() == 0:
            directory = RunDirectory.open(path, settings, constants, defaults)
    with processes.together():
        if processes.number() > 0:
            directory = RunDirectory.join(path, settings, constants, defaults)
    return directory


def _texts(
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


def _samples(loaded: list[Text], source: TextSettings, model: Model, settings: CramSettings) -> list[Sample]:
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
        "convergence_threshold": 1.0,
        "platform": device.platform,
        "device_kind": device.device_kind,
        "mesh": str(MeshShape(**mesh_of(model.decoder).shape)),
    }
