"""The package from Python: load a model, cram texts, decode, look at rows. Command lines call the same."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from jaxcram import report
from jaxcram.cram.profile import Profile
from jaxcram.cram.run import foreseen, plan_of
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import Prepared, begin, carry_out, in_tokens, prepare, read_texts
from jaxcram.devices import configuration, processes
from jaxcram.errors import UserError
from jaxcram.experiments.evaluation import Evaluation, evaluate, load_evaluation
from jaxcram.experiments.knockout import Knockout, knockout, load_knockout
from jaxcram.experiments.lanes import with_models
from jaxcram.experiments.reconstruction import Reconstructions, load_reconstructions, reconstruct
from jaxcram.experiments.subjects import crams_of
from jaxcram.findings.findings import Findings
from jaxcram.interchange.exporting import export_run
from jaxcram.interchange.importing import Imported, import_run
from jaxcram.loading import BUNDLED, Model, load_model
from jaxcram.options import TEXT_OPTIONS, CramOptions, shows_options
from jaxcram.predictions import generate, logits
from jaxcram.results.directory import finished_lanes
from jaxcram.results.paths import expanded
from jaxcram.results.reading import program_of
from jaxcram.runs import DECODERS, Decoded, Run, decode, load_run
from jaxcram.text.sources import TextSettings, load_texts

__all__ = [
    "BUNDLED",
    "DECODERS",
    "Decoded",
    "Evaluation",
    "Findings",
    "Imported",
    "Knockout",
    "Model",
    "Reconstructions",
    "Run",
    "analyse",
    "cram",
    "crams_of",
    "decode",
    "evaluate",
    "export_run",
    "generate",
    "import_run",
    "knockout",
    "load_evaluation",
    "load_knockout",
    "load_model",
    "load_reconstructions",
    "load_run",
    "load_texts",
    "logits",
    "outline",
    "program_of",
    "reconstruct",
]


@shows_options(CramOptions, CramSettings(), TextSettings())
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
    path = begin(out, checkpoint_minutes)
    with processes.together():
        profile = Profile(profile_dir)
    prepared = _prepare(model, texts, settings, options)
    return carry_out(prepared, path, verbose=verbose, checkpoint_minutes=checkpoint_minutes, profile=profile)


@shows_options(CramOptions, CramSettings(), TextSettings())
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


@configuration.pinned()
def analyse(
    *runs: Run | str | Path,
    analyses: Sequence[str] = (),
    grid: int = 60,
    model: Model | str | os.PathLike[str] | None = None,
) -> Findings:
    """Analyse one or several runs of progressive cramming, finished or not.

        found = api.analyse("runs/smollm2", "runs/gemma")
        print(found.table())

    Args:
        runs: the runs or their directories; each learning rate of each is a column.
        analyses: names from `jaxcram.findings.registry`; none are all that take seconds.
        grid: points of a landscape's mesh along each of its sides, 2 to 512; time grows with its square.
        model: that of all the runs, or its directory or Hub name; None loads each run's by its recorded name
            where an analysis asks it.

    Raises:
        UserError: a run of full cramming, the same run twice, an unknown analysis, a grid out of range,
            another model than a run was made with, or damaged rows.
    """
    if not 2 <= grid <= 512:
        raise UserError(f"grid={grid} should be from 2 to 512 points; the published landscapes have 60")
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    sources = [dataclasses.replace(run.source(), grid=grid) for run in loaded]
    if model is not None:
        given = [one for _, one in with_models(loaded, model)]
        sources = [dataclasses.replace(one, given=of) for one, of in zip(sources, given, strict=True)]
        for source in sources:
            source.model()  # refuses another one before anything is computed
    return Findings(sources, analyses)


def _prepare(
    model: Model | str | os.PathLike[str] | None,
    texts: str | Iterable[str] | TextSettings,
    settings: CramSettings | None,
    options: Mapping[str, Any],
) -> Prepared:
    """The run of a call."""
    of_texts = {name: value for name, value in options.items() if name in TEXT_OPTIONS}
    settings = CramSettings.of(settings, **{k: v for k, v in options.items() if k not in TEXT_OPTIONS})
    with processes.together():
        source, loaded = read_texts(texts, of_texts)
    model = model if isinstance(model, Model) else load_model(model)
    with processes.together():
        samples = in_tokens(loaded, source, model, settings)
    return prepare(model, samples, source, settings)
