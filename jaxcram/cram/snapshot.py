"""The unfinished lanes of a run between two chunks: all that it needs to go on.

A lane's bits depend on its own state alone; finished lanes have their rows on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np

from jaxcram.cram.lanes import State
from jaxcram.cram.scheduler import PassCost
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import mesh
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.results.checkpoint import Checkpoints, Kind, Saved
from jaxcram.results.curves import CURVES
from jaxcram.results.directory import RunDirectory
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Row

_RENAMED = {"['mem']": "['params']"}  # leaves of a state by their names in earlier versions


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a run fits its devices, which decides the shapes of its passes, and with them the rounding.

    Attributes:
        asked: token_budget and remat.
        devices: on which the lanes ran.
        cost: what sized the passes: measured where asked for, and halved when memory ran out.
        remat: whether activations are computed again.
    """

    asked: list[int | None]
    devices: list[str]
    cost: PassCost
    remat: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """The unfinished lanes of a run between two chunks.

    Attributes:
        lanes: their keys, in the order of the arrays' first axis, and how many rows each has.
        state: theirs, [U, ..] by name (`named`).
        rows: by key, those since the snapshot before; once read from disk, all of them.
        fit: of the run to its devices.
        totals: what the run has spent in all its starts, by name.
        points: keys of the lanes that have points of curves, and how many.
        curves: by key, the points, as `rows`.
    """

    lanes: dict[str, int]
    state: dict[str, np.ndarray]
    rows: dict[str, list[Row]]
    fit: Fit
    totals: dict[str, float]
    points: dict[str, int] = dataclasses.field(default_factory=dict)
    curves: dict[str, list[Row]] = dataclasses.field(default_factory=dict)

    def saved(self, constants: Mapping[str, Any]) -> Saved:
        """As a checkpoint keeps it; `constants` are the columns that all rows of this start share."""
        document = {
            "lanes": self.lanes,
            "fit": dataclasses.asdict(self.fit),
            "totals": self.totals,
            "points": self.points,
        }
        rows = {key: [{**constants, **row} for row in of_lane] for key, of_lane in self.rows.items()}
        arrays = self.state if self.lanes else {}
        return Saved(document, arrays, {"lanes": rows, "points": self.curves})

    @classmethod
    def of(cls, saved: Saved) -> Self:
        """What a checkpoint has kept."""
        fit = dict(saved.document["fit"])
        return cls(
            lanes=saved.document["lanes"],
            state=saved.arrays,
            rows=saved.rows["lanes"],
            fit=Fit(cost=PassCost(**fit.pop("cost")), **fit),
            totals=saved.document["totals"],
            points=saved.document["points"],
            curves=saved.rows["points"],
        )


def fit_before(model: Decoder, settings: CramSettings, saved: Snapshot | None) -> Fit | None:
    """How the start before fitted its devices, if it was asked for the same on the same ones.

    What was measured, or halved, then decides the rounding: it stays.
    """
    same = saved is not None and (saved.fit.asked, saved.fit.devices) == asked(model, settings)
    return saved.fit if saved and same else None


def asked(model: Decoder, settings: CramSettings) -> tuple[list[int | None], list[str]]:
    """What `Fit` follows from: the settings, and the devices."""
    devices = mesh.of(model).devices.flat
    return [int(settings.token_budget), settings.remat], [f"{x.platform}: {x.device_kind}" for x in devices]


def lane_checkpoints(directory: RunDirectory, minutes: float) -> Checkpoints[Snapshot]:
    """The checkpoints of the lanes of a run; see `Checkpoints`."""
    constants = directory.constants
    kind = Kind({"lanes": ROWS, "points": CURVES}, lambda snapshot: snapshot.saved(constants), Snapshot.of)
    return Checkpoints(directory, minutes, kind)


def named(state: State) -> dict[str, Any]:
    """The leaves of a state by name."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.flatten_with_path(state._asdict())[0]}


def restore(state: State, slots: np.ndarray, saved: dict[str, np.ndarray]) -> None:
    """Write what was saved into some places of a state.

    Args:
        state: numpy arrays [N, ..], changed in place.
        slots: places [U].
        saved: [U, ..] by name.

    Raises:
        UserError: the arrays are others than those of the state.
    """
    leaves = named(state)
    saved = {_RENAMED.get(name, name): leaf for name, leaf in saved.items()}
    here = {name: (leaf.dtype, leaf.shape[1:]) for name, leaf in leaves.items()}
    if here != {name: (leaf.dtype, leaf.shape[1:]) for name, leaf in saved.items()}:
        raise UserError(
            "the checkpoints are of another version of jaxcram; remove the folder checkpoints of the run: "
            "the lanes in them start again"
        )
    for name, leaf in leaves.items():
        leaf[slots] = saved[name]
