"""A run as analyses read it: rows without embeddings as one table, embeddings lane by lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxcram.errors import UserError
from jaxcram.loading import Model, load_model
from jaxcram.results import identity
from jaxcram.results.reading import load_lane, load_lanes, load_rows
from jaxcram.results.schema import check_embeddings
from jaxcram.results.table import JOB_COLUMNS, Job, embedding_shape, stack_embeddings

if TYPE_CHECKING:
    import pyarrow as pa


class Lane(NamedTuple):
    """The stages of one lane, in order; [S] of them, the last of which failed unless the target became exact.

    Attributes:
        job: which lane.
        prefix_S, exact_S, steps_S: tokens of each stage, whether it became exact, and its optimiser steps.
        points_SxKxD: the measured embedding of each stage, float32.
        start_KxD: the initial embedding, float32.
        target_T: the target's tokens.
        gain_S: information gain in bits.
        bucket_Sx2: the shape of the passes that measured each stage, (padded tokens, lanes).
    """

    job: Job
    prefix_S: np.ndarray
    exact_S: np.ndarray
    steps_S: np.ndarray
    points_SxKxD: np.ndarray
    start_KxD: np.ndarray
    target_T: np.ndarray
    gain_S: np.ndarray
    bucket_Sx2: np.ndarray

    @classmethod
    def of_table(cls, job: Job, table: pa.Table) -> Lane:
        """From the rows of a lane.

        Raises:
            UserError: an embedding was not kept.
        """
        if table["embedding"].null_count:
            raise UserError(f"{job.key}: the run kept no embeddings of all stages; cram with trajectory=all")
        return cls(
            job,
            table["stage_seq_len"].to_numpy(),
            table["exact"].to_numpy(),
            table["steps"].to_numpy(),
            stack_embeddings(table["embedding"]),
            stack_embeddings(table["initialization_embedding"])[0],
            np.asarray(table["target_ids"][0].as_py(), np.int32),
            table["information_gain_bits"].to_numpy(),
            np.column_stack([table[name].to_numpy() for name in ("bucket_tokens", "bucket_lanes")]),
        )

    def exact(self) -> Lane:
        """The lane without a stage that failed."""
        kept = self.exact_S.astype(bool)
        cut = {name: getattr(self, name)[kept] for name in self._fields if "_S" in name}
        return self._replace(**cut)


@dataclasses.dataclass(frozen=True)
class Source:
    """A run of progressive cramming, finished or not.

    Attributes:
        path: its directory.
        settings: as settings.json has them, with the defaults of those that it lacks.
        lanes: of its summary, each with `as_published` (see `jaxcram.cram.counted`).
        model_name: the model as the summary names it.
        grid: points of a landscape's mesh along each of its sides.
        given: the run's model, where it is at hand; None loads it by the recorded name.
    """

    path: Path
    settings: Mapping[str, Any]
    lanes: Sequence[Mapping[str, Any]]
    model_name: str
    grid: int = 60
    given: Model | None = None

    def rows(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows; take no embeddings so.

        Raises:
            UserError: a shard is damaged.
        """
        return load_rows(self.path, columns)

    def each_lane(self) -> Iterator[Lane]:
        """The lanes with their embeddings, by sample, learning rate and seed; one is in memory at a time.

        Raises:
            UserError: the embeddings were not kept, or a shard is damaged.
        """
        for job, table in load_lanes(self.path):
            if self.has(job):
                yield Lane.of_table(job, table)

    def lane(
        self, sample: int | None = None, learning_rate: float | None = None, seed: int | None = None
    ) -> Lane:
        """One lane with its embeddings: of those that fit, the first one with the longest horizon.

        Raises:
            UserError: no lane fits, its embeddings were not kept, or its shard is damaged.
        """
        wanted = dict(zip(JOB_COLUMNS, (sample, learning_rate, seed), strict=True))
        wanted = {name: value for name, value in wanted.items() if value is not None}
        fitting = [lane for lane in self.lanes if wanted.items() <= lane.items()]
        if not fitting:
            asked = ", ".join(f"{name}={value}" for name, value in wanted.items()) or "any lane"
            raise UserError(f"{self.path}: no lane has {asked}; look at run.lanes()")
        return self._load(_furthest_first(fitting)[0])

    def of_text(self, sample_id: int) -> Iterator[Lane]:
        """The lanes of a text with their embeddings, the longest horizon first; one is in memory at a time.

        Raises:
            UserError: embeddings were not kept, or a shard is damaged.
        """
        lanes = [lane for lane in self.lanes if lane["sample_id"] == sample_id]
        return map(self._load, _furthest_first(lanes))

    def _load(self, lane: Mapping[str, Any]) -> Lane:
        job = Job.of_row(lane)
        return Lane.of_table(job, load_lane(self.path, job))

    def has(self, job: Job) -> bool:
        """Whether a lane is among those of the summary; a run that is being extended has rows of others."""
        return job in self._jobs

    @cached_property
    def _jobs(self) -> set[Job]:
        return {Job.of_row(lane) for lane in self.lanes}

    @property
    def stores_trajectories(self) -> bool:
        """Whether the embeddings of all stages were kept."""
        return self.settings.get("trajectory", "all") == "all"

    def text(self, sample_id: int) -> str:
        """What identifies a text across runs: the digest of its contents, in older runs its place."""
        value: Any = self.settings
        for name in (identity.CONTENTS, "texts", str(sample_id), "digest"):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, str) else f"{self.path}:{sample_id}"

    def model(self) -> Model:
        """The run's model: the given one, or loaded by its recorded name.

        Raises:
            UserError: there is no model of that name, or it is not the one that the run was made with.
        """
        model = self.given or load_model(self.settings["model"], dtype=self.settings["dtype"])
        identity.require_model(self.path, self.settings, model.name, model.contents)
        # The width by itself too: an imported run may have no digest of the weights.
        shape = embedding_shape(self.rows(["initialization_embedding"])["initialization_embedding"])
        check_embeddings(self.path, set() if shape is None else {shape}, model.decoder.config.width)
        return model


def _furthest_first(lanes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(lanes, key=lambda lane: -lane["horizon"])
