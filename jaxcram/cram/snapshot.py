"""A snapshot: the unfinished lanes of a run between two chunks, which is all that it needs to resume.

A lane's results depend on its own state only, and the rows of finished lanes are on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np

from jaxcram.cram.lanes import State
from jaxcram.errors import UserError
from jaxcram.results.checkpoint import Checkpoints, Kind, Saved
from jaxcram.results.curves import CURVES
from jaxcram.results.directory import RunDirectory
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Row

_RENAMED = {"['mem']": "['params']"}  # name of a leaf in earlier versions -> name now


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """The unfinished lanes of a run between two chunks.

    Attributes:
        lanes: number of rows by key, in the order of the lane axis of `state`.
        state: arrays [U, ..] by name (`named`).
        rows: rows by key: those since the previous snapshot; after reading from disk, all of them.
        totals: time, passes and tokens spent so far in all starts, by name.
        points: number of curve points by key, for lanes that have any.
        curves: curve points by key, as in `rows`.
    """

    lanes: dict[str, int]
    state: dict[str, np.ndarray]
    rows: dict[str, list[Row]]
    totals: dict[str, float]
    points: dict[str, int] = dataclasses.field(default_factory=dict)
    curves: dict[str, list[Row]] = dataclasses.field(default_factory=dict)

    def saved(self, constants: Mapping[str, Any]) -> Saved:
        """The contents of a checkpoint; `constants` are the columns that all rows of this start share."""
        document = {
            "lanes": self.lanes,
            "totals": self.totals,
            "points": self.points,
        }
        rows = {key: [{**constants, **row} for row in of_lane] for key, of_lane in self.rows.items()}
        arrays = self.state if self.lanes else {}
        return Saved(document, arrays, {"lanes": rows, "points": self.curves})

    @classmethod
    def of(cls, saved: Saved) -> Self:
        """The snapshot that a checkpoint holds."""
        return cls(
            lanes=saved.document["lanes"],
            state=saved.arrays,
            rows=saved.rows["lanes"],
            totals=saved.document["totals"],
            points=saved.document["points"],
            curves=saved.rows["points"],
        )


def lane_checkpoints(directory: RunDirectory, minutes: float) -> Checkpoints[Snapshot]:
    """The checkpoints of a run's lanes; see `Checkpoints`."""
    constants = directory.constants
    kind = Kind({"lanes": ROWS, "points": CURVES}, lambda snapshot: snapshot.saved(constants), Snapshot.of)
    return Checkpoints(directory, minutes, kind)


def named(state: State) -> dict[str, Any]:
    """The leaves of a state, by their paths in the pytree."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.flatten_with_path(state._asdict())[0]}


def restore(state: State, slots: np.ndarray, saved: dict[str, np.ndarray]) -> None:
    """Write saved lanes into a state, in place.

    Args:
        state: NumPy arrays [N, ..].
        slots: indices [U] of the saved lanes in the state.
        saved: arrays [U, ..] by name.

    Raises:
        UserError: names, dtypes or shapes differ from those of the state.
    """
    leaves = named(state)
    saved = {_RENAMED.get(name, name): leaf for name, leaf in saved.items()}
    here = {name: (leaf.dtype, leaf.shape[1:]) for name, leaf in leaves.items()}
    if here != {name: (leaf.dtype, leaf.shape[1:]) for name, leaf in saved.items()}:
        raise UserError(
            "the checkpoints are from another version of jaxcram; remove the run's folder checkpoints: "
            "its unfinished lanes then start again"
        )
    for name, leaf in leaves.items():
        leaf[slots] = saved[name]
