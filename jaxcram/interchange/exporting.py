"""A run written as the published trajectories are, for scripts that read those."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxcram.errors import UserError
from jaxcram.interchange import published
from jaxcram.interchange.saved import Saving
from jaxcram.loading import tokenizer_of
from jaxcram.results import disk, identity
from jaxcram.results.paths import expanded
from jaxcram.results.reading import load_lanes
from jaxcram.results.table import Job
from jaxcram.runs import Run
from jaxcram.text.tokens import Tokenizer

FOLDER = "progressive_prefixes"  # of every experiment's rows, where the published scripts look for them
FORMATS = ("published",)


def export_run(
    run: Run | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str = "published",
    model: str | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
) -> list[Path]:
    """Write a run as the published data set has it: what `datasets.load_from_disk` reads.

    The published scripts know one trajectory a text. So every learning rate and seed gets a data set of its
    own, `OUT/lr0.1-seed0/progressive_prefixes`, with a row a stage: the published columns, with the failed
    stage, embeddings as float64, and text and tokens of the stage's prefix; and behind them jaxcram's own,
    with which `import_run` restores the rows to the bit. One lane is in memory at a time.

    Args:
        run: of progressive cramming with all its embeddings (trajectory=all), or its directory.
        out: a new directory.
        format: "published".
        model: where the run's model is, for its tokenizer; None is as recorded in the run.
        learning_rate: only the lanes of this one.
        seed: only the lanes of this one.

    Returns:
        The folders of the data sets.

    Raises:
        UserError: `out` is there already; the run has no such lanes, no stages or no embeddings of them; or
            the tokenizer is another one.
        StoppedError: the disk is full or gone; nothing is left behind.
    """
    if format not in FORMATS:
        raise UserError(f"format {format!r} is unknown: choose one of {', '.join(FORMATS)}")
    run = run if isinstance(run, Run) else Run(os.fspath(run))
    _require_trajectories(run)
    tokenizer = _tokenizer_of(run, model)
    wanted = {"learning_rate": learning_rate, "seed": seed}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if not any(wanted.items() <= lane.items() for lane in run.summary["lanes"]):
        asked = " and ".join(f"{name}={value}" for name, value in wanted.items())
        raise UserError(
            f"{run.path}: no lane of it has {asked}" if asked else f"{run.path}: no lane has ended"
        )
    with _new_folder(expanded(out)) as folder:
        written: dict[str, Saving] = {}
        for job, table in load_lanes(run.path):
            if wanted.items() <= vars(job).items():
                ids = table["target_ids"][0].as_py()
                texts = [tokenizer.decode(ids[:length]) for length in table["stage_seq_len"].to_pylist()]
                name = _experiment(job)
                if name not in written:
                    written[name] = Saving(folder / name / FOLDER, published.EXPORTED)
                written[name].write(published.from_lane(table, texts))
        for saving in written.values():
            saving.finish()
    return [expanded(out) / name / FOLDER for name in sorted(written)]


def _experiment(job: Job) -> str:
    return f"lr{job.learning_rate!r}-seed{job.seed}"


def _require_trajectories(run: Run) -> None:
    if run.settings["mode"] != "progressive":
        raise UserError(f"{run.path}: a run of full cramming has no stages to export; give a progressive one")
    if run.settings.get("trajectory", "all") != "all":
        raise UserError(
            f"{run.path}: does not have the embeddings of all stages; cram with trajectory=all to export it"
        )


def _tokenizer_of(run: Run, model: str | None) -> Tokenizer:
    """The tokenizer of a run's model; UserError if it is not the one that the run was made with."""
    name = model or run.settings["model"]
    tokenizer = tokenizer_of(name)
    made_with = run.settings.get(identity.CONTENTS, {}).get("model", {})
    if list(identity.model_differs(made_with, {"tokenizer": tokenizer.digest})):
        raise UserError(
            f"{name}: its tokenizer is not the one that {run.path} was made with; give that model"
        )
    return tokenizer


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder that is renamed to `path` at the end, and removed if the block raises an error."""
    if path.exists():
        raise UserError(f"{path}: is there already; choose another directory")
    folder = path.with_name(f".{path.name}{disk.TEMPORARY}")
    try:
        with disk.opening(path):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)  # of a start that was killed
            folder.mkdir()
        yield folder
        with disk.writing(path):
            folder.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
