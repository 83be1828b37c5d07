"""`jaxcram reconstruct` on disk: what comes back from crammed embeddings, of any runs or of texts crammed so.

    settings.json            as of every run, with `program` "reconstruct"
    full_0.99/ full/ progressive/    the runs that cram given texts, as `jaxcram cram` leaves them
    reconstruction.parquet   a row a lane (`jaxcram.results.reconstruction`)
    log.jsonl                events
    summary.json             what the lanes come to (`jaxcram.evaluate.reconstruction.summarise`)

The same call resumes what is not crammed yet, and measures again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from jaxcram import report
from jaxcram.cram import summary
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import (
    Prepared,
    begin,
    carry_out,
    in_tokens,
    open_experiment,
    prepare,
    read_texts,
)
from jaxcram.devices import configuration, processes
from jaxcram.errors import UserError
from jaxcram.evaluate.reconstruction import summarise
from jaxcram.evaluate.settings import RECONSTRUCT, setups
from jaxcram.experiments.experiment import Experiment
from jaxcram.experiments.lanes import finished, lane_rows, with_models
from jaxcram.loading import Model, load_model
from jaxcram.options import TEXT_OPTIONS, CramOptions, shows_options
from jaxcram.results import disk, identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.reconstruction import RECONSTRUCTION
from jaxcram.results.table import Row
from jaxcram.runs import Run
from jaxcram.text.sources import TextSettings

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "reconstruction.parquet"


def _agreed(
    path: Path, was: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings to record: of texts as of a run of cram; what is measured of runs may change."""
    if "runs" not in was and "runs" not in now:
        return identity.agreed(path, was, now, defaults)
    differences = list(identity.settings_differ(was, now, {"limit", "samples"}))
    identity.refuse(path, differences, "limit and samples may change")
    return dict(now)


KIND = identity.RunKind("reconstruct", (), _agreed)


class Reconstructions(Experiment):
    """What came back from the lanes of some runs, on disk."""

    kind, noun = KIND, "of reconstruct"

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table (`results.reconstruction.COLUMNS`), one a lane.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            return RECONSTRUCTION.read_shard(self.path / TABLE, columns)
        except ValueError as error:
            raise UserError(f"{error}; {RECONSTRUCTION.remedy}") from error

    def table(self) -> str:
        """Accuracies, misses and lanes without a miss, by setup and decoder."""
        return report.reconstruction(self.summary["setups"])

    def __repr__(self) -> str:
        of = ", ".join(f"{one['setup']} {one['lanes']}" for one in self.summary["setups"])
        return f"Reconstructions({str(self.path)!r}: lanes of {of})"


load_reconstructions = Reconstructions.load


@shows_options(CramOptions, RECONSTRUCT, TextSettings())
@configuration.pinned()
def reconstruct(
    runs: Run | str | os.PathLike[str] | Sequence[Run | str | os.PathLike[str]] | None = None,
    model: Model | str | os.PathLike[str] | None = None,
    *,
    texts: str | Iterable[str] | TextSettings | None = None,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    samples: Iterable[int] | None = None,
    settings: CramSettings | None = None,
    mesh: str = "lanes:-1,model:1",
    verbose: bool = True,
    checkpoint_minutes: float = 10.0,
    **options: Unpack[CramOptions],
) -> Reconstructions:
    """Measure what comes back from embeddings: under teacher forcing, and from both greedy decoders.

        api.reconstruct("runs/a").table()
        api.reconstruct(texts="bundled", num_samples=4, max_tokens=128, num_memory=8).table()

    Either finished runs are measured, or texts are crammed in three ways first: full until 99% of the tokens
    are right, full, and progressive. A second call with the same directory does what is missing.

    Args:
        runs: finished runs of cram, or their directories.
        model: a loaded model, its directory or Hub name. None is for runs their own, for texts the bundled.
        texts: instead of runs, as for `api.cram`.
        out: the directory; None is `reconstruct` in a single run, else a fresh one under `runs/`.
        limit: only the first so many texts.
        samples: only the texts with these ids.
        settings: how texts are crammed; None is `jaxcram.evaluate.settings.RECONSTRUCT`.
        mesh: where a model goes that is loaded here; see `load_model`.
        verbose: show progress on stderr.
        checkpoint_minutes: between two checkpoints of the lanes under way; 0 makes none.
        options: settings of `api.cram` by name; `full_threshold` is where the first way stops.

    Raises:
        UserError: bad input, before anything is computed or written.
        StoppedError, Interrupted: as `api.cram`.
    """
    if (runs is None) == (texts is None):
        raise UserError("give either runs to measure, or texts to cram and measure")
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit} must be at least 1")
    chosen = _Chosen(limit, None if samples is None else tuple(samples))
    if runs is not None:
        if settings is not None or options:
            name = "settings" if settings is not None else min(options)
            raise UserError(f"{name}: the runs have settings of their own; leave it out")
        given = [runs] if isinstance(runs, Run | str | os.PathLike) else list(runs)
        return _measure_runs(given, model, out, chosen, mesh, verbose)
    path, ways = begin(out, checkpoint_minutes), setups(_settings(settings, options))
    model = model if isinstance(model, Model) else load_model(model, mesh=mesh)
    of_texts = {name: value for name, value in options.items() if name in TEXT_OPTIONS}
    prepared = _prepared(texts, model, ways, of_texts, chosen)
    with open_experiment(path, _recorded(prepared), KIND) as directory:
        crammed = [
            carry_out(run, directory.path / name, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
            for name, run in prepared.items()
        ]
        return _measured(directory, [(run, model) for run in crammed], chosen, verbose)


def _measure_runs(
    given: Sequence[Run | str | os.PathLike[str]],
    model: Model | str | os.PathLike[str] | None,
    out: str | os.PathLike[str] | None,
    chosen: _Chosen,
    mesh: str,
    verbose: bool,
) -> Reconstructions:
    """As `reconstruct` with runs."""
    with processes.together():
        if not given:
            raise UserError("runs: the list is empty; give the directory of a run")
        runs = [finished(run) for run in given]
        for run in runs:
            chosen.of_run(run)  # refuses ids that are not there
    path = begin(out or (runs[0].path / KIND.program if len(runs) == 1 else None), 0.0)
    loaded = list(with_models(runs, model, mesh))
    record = {"runs": [str(run.path) for run in runs], **dataclasses.asdict(chosen)}
    with open_experiment(path, record, KIND) as directory:
        return _measured(directory, loaded, chosen, verbose)


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Which texts are measured.

    Attributes:
        limit: the first so many; None takes all.
        samples: those with these ids; None takes all.

    Raises:
        UserError: no id is given, or one twice.
    """

    limit: int | None
    samples: tuple[int, ...] | None

    def __post_init__(self) -> None:
        if self.samples is None:
            return
        if not self.samples:
            raise UserError("samples: no id; give at least one")
        if twice := [i for i in self.samples if self.samples.count(i) > 1]:
            raise UserError(f"samples: {twice[0]} is given twice; give it once")

    def of(self, ids: Collection[int], where: str) -> set[int]:
        """Those of some ids; UserError if one is not there."""
        wanted = sorted(ids if self.samples is None else self.samples)
        if lost := sorted(set(wanted) - set(ids)):
            known = f"ids are from {min(ids)} to {max(ids)}" if ids else "it has none"
            raise UserError(f"samples: {lost[0]} is not an id of {where}; {known}")
        return set(wanted[: self.limit])

    def of_run(self, run: Run) -> set[int]:
        """Those of a run."""
        return self.of({lane["sample_id"] for lane in run.summary["lanes"]}, str(run.path))


def _prepared(
    texts: Any, model: Model, ways: Mapping[str, CramSettings], options: Mapping[str, Any], chosen: _Chosen
) -> dict[str, Prepared]:
    """The runs that cram texts, by setup."""
    with processes.together():
        source, loaded = read_texts(texts, options)
        wanted = chosen.of({text.sample_id for text in loaded}, f"texts={source.texts}")
        kept = [text for text in loaded if text.sample_id in wanted]
        samples = in_tokens(kept, source, model, next(iter(ways.values())))
    return {name: prepare(model, samples, source, settings) for name, settings in ways.items()}


def _recorded(prepared: Mapping[str, Prepared]) -> dict[str, Any]:
    """What settings.json records: the settings of the first way, but for the mode, of which there are two."""
    first = next(iter(prepared.values())).recorded
    return {name: value for name, value in first.items() if name != "mode"}


def _settings(base: CramSettings | None, options: Mapping[str, Any]) -> CramSettings:
    """How texts are crammed in the first way; the others follow from it."""
    if "mode" in options:
        raise UserError("mode: texts are crammed in full and progressively; leave it out")
    base = base or RECONSTRUCT
    changes = {"mode": "full"} | {name: x for name, x in options.items() if name not in TEXT_OPTIONS}
    if base.stages.mode != "full":
        changes = {"full_threshold": RECONSTRUCT.stages.full_threshold} | changes
    return CramSettings.of(base, **changes)


def _measured(
    directory: RunDirectory, runs: Sequence[tuple[Run, Model]], chosen: _Chosen, verbose: bool
) -> Reconstructions:
    """Measures the runs, and writes table and summary."""
    rows: list[Row] = []
    with report.Bar(verbose and processes.number() == 0) as bar:
        for run, model in runs:
            bar.tell(f"decoding {run.path}")
            rows += lane_rows(run, model, chosen.of_run(run))
    rows = [{**row, "lane_index": number} for number, row in enumerate(rows)]
    values = {
        "setups": summarise(rows),
        "models": sorted({model.name for _, model in runs}),
        "versions": summary.versions(),
        "compiler": configuration.recorded(),
        "devices": summary.devices(),
    }

    def write() -> None:
        disk.replace(directory.path / TABLE, RECONSTRUCTION.shard_bytes(RECONSTRUCTION.table(rows)))
        directory.write_summary(values)

    processes.from_first(write)
    return Reconstructions(directory.path)
