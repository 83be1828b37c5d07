"""Runs on disk as Python values: rows, curves and table, and the texts back from their embeddings."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxcram import report
from jaxcram.cram import counted, summary, verify
from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import configuration
from jaxcram.errors import UserError
from jaxcram.findings.analysed import Analysed
from jaxcram.findings.source import Source
from jaxcram.loading import Model, load_model
from jaxcram.results import identity
from jaxcram.results.paths import expanded
from jaxcram.results.reading import (
    has_curves,
    load_curves,
    load_lanes,
    load_rows,
    load_settings,
    load_summary,
)
from jaxcram.results.schema import check_embeddings, check_files, check_samples, check_unfinished
from jaxcram.results.table import JOB_COLUMNS, Job
from jaxcram.text.sources import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

DECODERS = ("exact", "cached")


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The text of one lane, back from its embedding.

    Attributes:
        sample_id, learning_rate, seed: the lane.
        original: the text that was to come back.
        text: the text that came back.
        identical: whether tokens and texts are the same, and there is a text.
    """

    sample_id: int
    learning_rate: float
    seed: int
    original: str
    text: str
    identical: bool


class Run(Analysed):
    """A run on disk: its settings, summary and rows.

    Attributes:
        path: its directory.
        settings: as settings.json has them.
        finished: whether all lanes have ended and were decoded back.
        summary: as summary.json has it; of a run that is not finished, `mode`, `model` and the `lanes` that
            have ended, without accuracies.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)
        self.settings = load_settings(path)
        self.finished = (self.path / "summary.json").exists()
        if self.finished:
            self.summary = load_summary(path)
            check_files(self.path, self.settings, self.summary)
        else:
            check_unfinished(self.path, self.settings, [])
            texts, mode = self.settings.get("texts"), self.settings["mode"]
            lanes = summary.so_far(self.path, mode, lambda sample_id: kind_of(str(texts), sample_id))
            check_unfinished(self.path, self.settings, lanes["lanes"])
            self.summary = {**lanes, "mode": mode, "model": self.settings["model"]}

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table, one a stage; `.to_pandas()` makes a data frame of it."""
        table = load_rows(self.path, columns)
        if "sample_id" in table.column_names:
            check_samples(self.path, self.summary, table)
        return table

    def curves(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The curves as an Arrow table (`results.curves.COLUMNS`), a row every `log_every` steps of a lane.

        Raises:
            UserError: the run keeps no curves.
        """
        return load_curves(self.path, columns)

    def require_model(self, model: Model) -> None:
        """Raises UserError unless a model is the one that the run was made with."""
        identity.require_model(self.path, self.settings, model.name, model.contents)

    @property
    def has_curves(self) -> bool:
        """Whether any lane has a curve."""
        return has_curves(self.path)

    def table(self, *, per_text: bool = False, as_published: bool = False) -> str:
        """The closing tables: horizons, bits, steps and both decoders; trajectories and norms.

        Args:
            per_text: one line per text, not per learning rate.
            as_published: trajectories, tokens and bits also as the published tables were counted.

        Raises:
            UserError: `as_published` of a run of full cramming, or its rows are damaged.
        """
        values = self.counted() if as_published else self.summary
        return report.table(values, per_text=per_text, as_published=as_published)

    def as_published(self) -> list[dict[str, Any]]:
        """The figures of each lane as the published tables were counted: with the stage that failed.

        Each has `sample_id`, `learning_rate`, `seed`, `tokens`, `information_gain_bits`, `trajectory_length`
        and `trajectory_components` (PCA 99%); the last two are None where trajectories are not stored.

        Raises:
            UserError: a run of full cramming, which has no stages to count, or damaged rows.
        """
        lanes = self.counted()["lanes"]
        return [{name: lane[name] for name in JOB_COLUMNS} | lane["as_published"] for lane in lanes]

    def counted(self) -> dict[str, Any]:
        """The summary, with what an earlier version did not count taken from the rows.

        Raises:
            UserError: as `as_published`.
        """
        if self.summary["mode"] == "full":
            raise UserError(
                f"{self.path}: a run of full cramming, which has no stages to count as published; "
                "leave out as_published"
            )
        lanes = {Job.of_row(lane): lane for lane in self.summary["lanes"]}
        stored = self.settings.get("trajectory", "all") == "all"
        if all(
            lane.get("as_published") and (lane.get("trajectory_length") is not None or not stored)
            for lane in lanes.values()
        ):
            return self.summary
        for job, table in load_lanes(self.path):
            if job in lanes:
                figures = counted.figures(Outcome.of_table(table, self.summary["mode"]))
                lanes[job] = {**lanes[job], **figures}
        return {**self.summary, "lanes": list(lanes.values())}

    def source(self) -> Source:  # noqa: D102
        if self.summary["mode"] == "full":
            raise UserError(
                f"{self.path}: a run of full cramming, which has no trajectories to analyse; "
                "give a run of progressive cramming"
            )
        settings = {**CramSettings().resolved(), **self.settings}  # earlier versions recorded fewer
        return Source(self.path, settings, self.counted()["lanes"], self.summary["model"])

    def __repr__(self) -> str:
        lanes = self.summary["lanes"]
        texts = len({lane["sample_id"] for lane in lanes})
        ended = f"{len(lanes)} lanes of {texts} texts" + ("" if self.finished else " so far")
        return f"Run({str(self.path)!r}: {self.settings['mode']}, {ended})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(f'{self!r}')}\n{html.escape(self.table())}</pre>"


def load_run(path: str | Path) -> Run:
    """A run from its directory, finished, under way or interrupted.

    Raises:
        UserError: the path is no run, or its files are damaged.
    """
    return Run(path)


class Stored(NamedTuple):
    """What a run has on disk: how its lanes ended, and tokens and text of each target, by sample id."""

    outcomes: list[Outcome]
    targets: dict[int, np.ndarray]
    originals: dict[int, str | None]


def stored_outcomes(run: Run, model: Model) -> Stored:
    """The lanes of a run, with the embeddings that answer for them.

    Raises:
        UserError: the run was made with another model, or its files are damaged.
    """
    run.require_model(model)
    stored = Stored([], {}, {})
    for job, table in load_lanes(run.path):
        stored.outcomes.append(Outcome.of_table(table, run.settings["mode"]))
        stored.targets[job.sample_id] = np.asarray(table["target_ids"][0].as_py(), np.int32)
        stored.originals[job.sample_id] = table["text"][0].as_py() if "text" in table.column_names else None
    answers = [outcome.row["embedding"] for outcome in stored.outcomes if outcome.row is not None]
    shapes = {np.shape(embedding) for embedding in answers if embedding is not None}
    check_embeddings(run.path, shapes, model.decoder.config.width)
    return stored


@configuration.pinned()
def decode(
    run: Run | str | Path,
    model: Model | None = None,
    *,
    decoder: str = "exact",
    mesh: str = "lanes:-1,model:1",
) -> list[Decoded]:
    """Text back from the embeddings of a run, lane by lane, in order of sample, seed and learning rate.

    Args:
        run: a finished run or its directory.
        model: the run's model; None loads it by the recorded name.
        decoder: "exact" (the shapes of training) or "cached" (the ordinary decoder).
        mesh: where that model goes; see `load_model`.

    Raises:
        UserError: the run kept no embeddings, or the decoder is unknown.
    """
    if decoder not in DECODERS:
        raise UserError(f"decoder {decoder!r} is unknown: choose one of {', '.join(DECODERS)}")
    run = run if isinstance(run, Run) else Run(run)
    model = model or load_model(run.settings["model"], dtype=run.settings["dtype"], mesh=mesh)
    outcomes, targets, originals = stored_outcomes(run, model)
    decoded = verify.decode_outcomes(model.decoder, outcomes, targets)
    if not decoded:
        raise UserError(f"{run.path}: no embedding of an exact prefix was kept; cram with trajectory=horizon")
    texts, to_text = [], model.tokenizer.decode
    for i, result in decoded.items():
        outcome, job = outcomes[i], outcomes[i].job
        target = targets[job.sample_id][: outcome.decode_tokens]
        compared = summary.compare(outcome, target, result[decoder], originals[job.sample_id], to_text)
        names = ("original", "decoded", "identical")
        texts.append(Decoded(job.sample_id, job.learning_rate, job.seed, *(compared[x] for x in names)))
    return sorted(texts, key=lambda lane: (lane.sample_id, lane.seed, lane.learning_rate))
