"""How far an embedding can be moved before its text is lost: accuracy around stages of a trajectory.

The mesh of a stage lies in the plane through that stage's own embedding, along the first two principal
components (PC1 and PC2) of the lane's trajectory: along all others its points are where the embedding is. It
covers the smallest rectangle that holds the projected trajectory, and a margin around it. Accuracy is
teacher-forced, over the prefix of the stage. The basin share of a stage is the share of mesh points whose
accuracy is above 0.9.

Tarasov et al. 2026 do the same with all stages, the failed last one included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from jaxcram.analysis import interval
from jaxcram.analysis.accuracy import BATCH_TOKENS, accuracies
from jaxcram.analysis.basis import Basis
from jaxcram.models.decoder import Decoder

THRESHOLD = 0.9


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where a landscape is measured.

    Attributes:
        stages: how many stages, evenly spaced from the first to the last.
        size: points of the mesh along each of its sides.
        margin: beyond the trajectory on each side, as a share of its span.
        batch_tokens: tokens of a pass, padding included.
    """

    stages: int = 8
    size: int = 60
    margin: float = 0.15
    batch_tokens: int = BATCH_TOKENS


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """The landscape around one stage.

    Attributes:
        index: of the stage among the lane's points, from 0.
        tokens: of its prefix.
        own: accuracy of its own embedding.
        accuracy_YxX: of the mesh, PC2 by PC1.
    """

    index: int
    tokens: int
    own: float
    accuracy_YxX: np.ndarray

    def basin(self, threshold: float = THRESHOLD) -> float:
        """The share of mesh points whose accuracy is above a threshold."""
        return float(np.mean(self.accuracy_YxX > threshold))


@dataclasses.dataclass(frozen=True, eq=False)
class Landscape:
    """What surrounds some stages of one lane.

    Attributes:
        walk_Rx2: every stage along PC1 and PC2, in order.
        x_X, y_Y: coordinates of the mesh along PC1 and along PC2.
        shares: of the trajectory's variance, along PC1 and along PC2.
        stages: those around which there is a mesh, in order.
    """

    walk_Rx2: np.ndarray
    x_X: np.ndarray
    y_Y: np.ndarray
    shares: tuple[float, float]
    stages: Sequence[Stage]


def measure(
    model: Decoder, points_RxKxD: np.ndarray, lengths_R: np.ndarray, target_T: np.ndarray, grid: Grid
) -> Landscape | None:
    """The landscape of one lane; None if it has no points, or these no second principal component.

    Meshes whose prefixes have the same padded length share a program.

    Args:
        model: the frozen decoder.
        points_RxKxD: the embedding of every stage, in order.
        lengths_R: tokens of the prefix of each.
        target_T: tokens of the whole target, int32.
        grid: where to measure.

    Raises:
        UserError: the target has ids that the model does not.
    """
    if not len(points_RxKxD):
        return None
    points_RxKxD = np.asarray(points_RxKxD, np.float64)
    basis = Basis.of(points_RxKxD)
    if basis.rank < 2:
        return None
    walk_Rx2, axes_2xKxD = basis.coordinates_SxC[:, :2], basis.directions_CxKxD[:2]
    x_X, y_Y = (_side(of_walk_R, grid) for of_walk_R in walk_Rx2.T)
    mesh_Px2 = np.stack(np.meshgrid(x_X, y_Y), axis=-1).reshape(-1, 2)
    stages = []
    for index in np.unique(np.linspace(0, len(points_RxKxD) - 1, grid.stages).astype(int)):
        own_KxD, tokens = points_RxKxD[index], int(lengths_R[index])
        moved_PxKxD = np.tensordot(mesh_Px2 - walk_Rx2[index], axes_2xKxD, axes=1) + own_KxD
        measured = accuracies(
            model,
            np.concatenate([own_KxD[None], moved_PxKxD]),
            target_T[:tokens],
            batch_tokens=grid.batch_tokens,
        )
        accuracy_YxX = measured[1:].reshape(len(y_Y), len(x_X))
        stages.append(Stage(int(index), tokens, float(measured[0]), accuracy_YxX))
    shares = basis.shares_C
    return Landscape(walk_Rx2, x_X, y_Y, (float(shares[0]), float(shares[1])), stages)


def _side(walk_R: np.ndarray, grid: Grid) -> np.ndarray:
    margin = grid.margin * np.ptp(walk_R)
    return np.linspace(walk_R.min() - margin, walk_R.max() + margin, grid.size)


def rows(landscape: Landscape, threshold: float = THRESHOLD) -> list[dict[str, Any]]:
    """A row for each stage that has a mesh.

    Each has `stage_index`, `stage_seq_len`, `position` (the index over that of the last stage, 0 to 1),
    `basin_share` and `own_accuracy`.
    """
    last = len(landscape.walk_Rx2) - 1
    return [
        {
            "stage_index": stage.index,
            "stage_seq_len": stage.tokens,
            "position": stage.index / last,
            "basin_share": stage.basin(threshold),
            "own_accuracy": stage.own,
        }
        for stage in landscape.stages
    ]


def summarise(
    lanes: Sequence[Sequence[Mapping[str, Any]]], texts: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Basin shares of several lanes along their trajectories.

    Args:
        lanes: the `rows` of each; at least one.
        texts: what each is of (see `jaxcram.analysis.interval.of_mean`).

    Returns:
        `lanes`, their number; `position`, those of the lane with most rows; `basin_share` and `std` there,
        mean and standard deviation over lanes, interpolated linearly, as the published curves are; `decades`,
        the mean over lanes of the slope of log10(basin share) against position (-2 is a fall by two orders of
        magnitude from the first stage to the last), which leaves out stages without a basin; and `interval`,
        its 95% interval. `std` is None for one lane, `interval` for one text, and `decades` if no lane has
        two stages with a basin.
    """
    places = [[row["position"] for row in lane] for lane in lanes]
    grid = max(places, key=len)
    shares = [[row["basin_share"] for row in lane] for lane in lanes]
    shares_LxP = np.array([np.interp(grid, x, y) for x, y in zip(places, shares, strict=True)])
    slopes = {i: slope for i, lane in enumerate(lanes) if (slope := _decades(lane)) is not None}
    of_texts = None if texts is None else [texts[i] for i in slopes]
    return {
        "lanes": len(lanes),
        "position": list(grid),
        "basin_share": shares_LxP.mean(axis=0).tolist(),
        "std": shares_LxP.std(axis=0, ddof=1).tolist() if len(lanes) > 1 else None,
        "decades": float(np.mean(list(slopes.values()))) if slopes else None,
        "interval": interval.of_mean(list(slopes.values()), of_texts),
    }


def _decades(lane: Sequence[Mapping[str, Any]]) -> float | None:
    """The slope of log10(basin share) against position; None without two stages that have a basin."""
    known = [(row["position"], np.log10(row["basin_share"])) for row in lane if row["basin_share"] > 0]
    return float(stats.linregress(*zip(*known, strict=True)).slope) if len(known) > 1 else None
