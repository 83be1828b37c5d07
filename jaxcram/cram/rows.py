"""From what the device measured to rows: one row a stage, and one outcome a lane."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from jaxcram.analysis import trajectory
from jaxcram.cram.lanes import Bucket, Record
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Stop
from jaxcram.results.table import Job, Row, stack_embeddings

if TYPE_CHECKING:
    import jax
    import pyarrow as pa


class Collected:
    """Rows of one lane in one table, which checkpoints take over as they come.

    Attributes:
        rows: those so far, in order.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._handed_out = 0

    def new_rows(self) -> list[Row]:
        """The rows since this was last asked."""
        new = self.rows[self._handed_out :]
        self._handed_out = len(self.rows)
        return new

    def restore(self, rows: list[Row]) -> None:
        """Go on from all rows that an earlier start had of this lane, which had not ended."""
        self.rows = rows
        self._handed_out = len(rows)


def of_pass(records: Record, p: int) -> Record:
    """What pass `p` of a lane's records [P, ..] measured."""
    return Record(*(field[p] for field in records))


def mean_loss(one: Record, prefix: int) -> float:
    """The objective of a lane in one pass: the mean of its per-token losses over a prefix."""
    return float(np.mean(one.loss[:prefix]))


def finite(value: float | None) -> float | None:
    """A number as tables and JSON have it: null where it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def vector_norm(mem_KxD: np.ndarray | jax.Array) -> float | None:
    """Mean Euclidean norm of K vectors."""
    return finite(float(np.mean(np.sqrt(np.sum(np.square(mem_KxD, dtype=np.float64), axis=1)))))


def with_trajectory(rows: list[Row], points_RxKxD: np.ndarray) -> list[Row]:
    """The rows of a lane that has ended, with the columns that tell of its trajectory.

    Args:
        rows: one a stage, in order; the last one may be of a stage that failed.
        points_RxKxD: their embeddings.
    """
    exact = sum(row["exact"] for row in rows)
    components = {
        count - 1: trajectory.components(points_RxKxD[:count])
        for count in {exact, len(rows)} - {0}
        if np.all(np.isfinite(points_RxKxD[:count]))
    }
    with np.errstate(invalid="ignore"):  # infinity minus infinity, where a lane diverged
        lengths = trajectory.lengths(points_RxKxD).tolist()
    return [
        {**row, "trajectory_length": finite(length), "trajectory_components": components.get(i)}
        for i, (row, length) in enumerate(zip(rows, lengths, strict=True))
    ]


class LaneRows(Collected):
    """Collects the rows of one lane, one a stage (`jaxcram.results.rows.COLUMNS`).

    Args:
        job: which lane.
        alone_nll_T: -log p of every target token under the frozen model alone, nats; 0 for token 0, which
            nothing predicts. Information gain and surprisal leave token 0 out on both sides.
        start_KxD: the initial embedding.
        stages: the procedure's stages.
        trajectory: which embeddings the finished rows keep.
        token_norm: mean Euclidean norm of the model's token embeddings.
    """

    def __init__(
        self,
        job: Job,
        alone_nll_T: np.ndarray,
        start_KxD: np.ndarray,
        stages: StageSettings,
        trajectory: str,
        token_norm: float,
    ) -> None:
        super().__init__()
        self.job = job
        self.length = len(alone_nll_T)
        self.horizon = 0
        self._alone_bits_T = alone_nll_T / math.log(2)
        self._start_KxD = start_KxD
        self._stages = stages
        self._trajectory = trajectory
        self._token_norm = token_norm

    def exact_stages(self, most: int) -> list[int]:
        """Optimiser steps of the last stages, so many at most, that became exact."""
        return [row["steps"] for row in self.rows[-most:] if row["exact"]]

    def restore(self, rows: list[Row]) -> None:  # noqa: D102
        super().restore(rows)
        self.horizon = rows[-1]["stage_seq_len"] if rows else 0

    def take(self, records: Record, bucket: Bucket) -> bool:
        """Add the stages that a chunk completed in this lane; True when the lane has ended.

        Args:
            records: the lane's records of the chunk as numpy arrays [P, ..], passes that took place only.
            bucket: the shape they were measured in.
        """
        running = records.stop[-1] == Stop.RUNNING
        if running and records.horizon[-1] == self.horizon:
            return False  # as in most chunks
        grown_P = np.diff(records.horizon, prepend=self.horizon) > 0
        ended_P = np.diff(records.stop, prepend=Stop.RUNNING) != 0
        for p in np.flatnonzero(grown_P | ended_P):
            one = of_pass(records, int(p))
            if grown_P[p]:
                for prefix in self._stages.between(int(one.prefix), int(one.horizon)):
                    # Stages that came free with the first one took no step of their own.
                    steps = int(one.stage_steps) if prefix == one.prefix else 0
                    self._add(one, prefix, steps, right=prefix, bucket=bucket)
            else:
                self._add(one, int(one.prefix), int(one.stage_steps), right=int(one.correct), bucket=bucket)
        self.horizon = int(records.horizon[-1])
        if running:
            return False
        self.rows[-1]["stop_reason"] = Stop(int(records.stop[-1])).name.lower()
        return True

    def _add(self, one: Record, prefix: int, steps: int, *, right: int, bucket: Bucket) -> None:
        bits_T = one.nll[1:prefix] / math.log(2)
        previous = self.rows[-1]["stage_seq_len"] if self.rows else 0
        norm = vector_norm(one.mem)
        if self.rows and right == prefix and self._trajectory != "all":
            # This stage answers for the lane now; embeddings of all would fill the memory for nothing.
            self.rows[-1] = {**self.rows[-1], "embedding": None}
        self.rows.append(
            {
                **vars(self.job),
                "stage_index": len(self.rows),
                "stage_seq_len": prefix,
                "num_input_tokens": self.length,
                "exact": right == prefix,
                "exact_prefix": min(int(one.exact), prefix),
                "steps": steps,
                "steps_taken": int(one.total_steps),
                "final_loss": mean_loss(one, prefix),
                "final_convergence": right / prefix,
                "information_gain_bits": float(self._alone_bits_T[1:prefix].sum() - bits_T.sum()),
                "surprisal_bits": float(self._alone_bits_T[previous:prefix].sum()),
                # A copy, or the whole chunk's records would stay in memory as long as this row.
                "embedding": one.mem.copy(),
                "vector_norm": norm,
                "relative_norm": norm / self._token_norm if norm is not None and self._token_norm else None,
                "initialization_embedding": None if self.rows else self._start_KxD,
                "bucket_tokens": bucket.tokens,
                "bucket_lanes": bucket.lanes,
                "stop_reason": None,
            }
        )

    def finished(self) -> tuple[Outcome, list[Row]]:
        """The outcome of a lane that has ended, and its rows with the embeddings that `trajectory` keeps."""
        rows, mode = self.rows, self._stages.mode
        everything, horizon = self._trajectory == "all", self._trajectory == "horizon"
        if everything and mode == "progressive":
            rows = with_trajectory(rows, np.stack([row["embedding"] for row in rows]))
        outcome = Outcome.of(rows, mode)
        return outcome, [
            row if everything or (horizon and row is outcome.row) else {**row, "embedding": None}
            for row in rows
        ]


class Ended(NamedTuple):
    """A lane that has ended: how, its rows, and the points of its curve, if those are kept."""

    outcome: Outcome
    rows: list[Row]
    curve: list[Row]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one lane ended.

    Attributes:
        row: the row whose embedding answers for the lane: in progressive mode the longest exact prefix's
            (None if there is none), in full mode the last measured one.
        last: the lane's last row, which is of the stage that failed, if one did; None in full mode.
        job: which lane.
        horizon: tokens of the longest exact prefix.
        target_tokens: tokens of the target.
        decode_tokens: tokens that the embedding is to reproduce: the horizon, in full mode the target.
        steps: optimiser steps in all.
        stop_reason: why it ended.
    """

    row: Row | None
    last: Row | None
    job: Job
    horizon: int
    target_tokens: int
    decode_tokens: int
    steps: int
    stop_reason: str

    # of the rows, which `of` reads, and lane summaries
    COLUMNS: ClassVar = (
        *("sample_id", "learning_rate", "seed", "stage_index", "stage_seq_len", "num_input_tokens"),
        *("exact", "exact_prefix", "steps_taken", "final_convergence", "information_gain_bits"),
        *("vector_norm", "relative_norm", "trajectory_length", "trajectory_components", "stop_reason"),
    )

    def in_brief(self) -> dict[str, Any]:
        """What the log says of a lane that has ended."""
        names = ("horizon", "target_tokens", "steps", "stop_reason")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of_table(cls, table: pa.Table, mode: str) -> Outcome:
        """The outcome of a lane from its stored rows, with the answering embedding as an array [K, D]."""
        rows = table.drop_columns(["embedding", "initialization_embedding"]).to_pylist()
        earlier = "trajectory_length" not in table.column_names  # of a version without that column
        if earlier and mode == "progressive" and not table["embedding"].null_count:
            rows = with_trajectory(rows, stack_embeddings(table["embedding"]))
        outcome = cls.of(rows, mode)
        if outcome.row is not None:
            of_stage = table["embedding"].slice(outcome.row["stage_index"], 1)
            outcome.row["embedding"] = None if of_stage.null_count else stack_embeddings(of_stage)[0]
        return outcome

    @classmethod
    def of(cls, rows: list[Row], mode: str) -> Outcome:
        """The outcome that a finished lane's rows, in order of their stages, tell."""
        last = rows[-1]
        exact = [row for row in rows if row["exact"]]
        full = mode == "full"
        answer = last if full else (exact[-1] if exact else None)
        horizon = last["exact_prefix"] if full else (exact[-1]["stage_seq_len"] if exact else 0)
        return cls(
            row=answer,
            last=None if full else last,
            job=Job.of_row(last),
            horizon=horizon,
            target_tokens=last["num_input_tokens"],
            decode_tokens=last["num_input_tokens"] if full else horizon,
            steps=last["steps_taken"],
            stop_reason=last["stop_reason"],
        )
