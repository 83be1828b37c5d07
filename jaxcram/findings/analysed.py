"""What a run tells a notebook about the paths of its embeddings."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import numpy as np

from jaxcram.analysis.basis import Basis
from jaxcram.devices import configuration
from jaxcram.errors import UserError
from jaxcram.findings import registry
from jaxcram.findings.findings import Findings
from jaxcram.findings.source import Lane, Source

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Analysed(abc.ABC):
    """A run with its analyses, and the trajectories of its lanes.

    Wherever `sample`, `lr` (learning rate) and `seed` leave a choice of lanes, it falls on the one with the
    longest horizon.
    """

    @abc.abstractmethod
    def source(self) -> Source:
        """The run as analyses read it.

        Raises:
            UserError: a run of full cramming, which has no trajectories, or damaged rows.
        """

    @configuration.pinned()
    def lanes(self) -> pd.DataFrame:
        """The lanes as a data frame: job, `horizon`, `trajectory_length`, `pca99`, surprisal and capacity.

        Columns named `as_published_*` are counted as the published tables were.

        Raises:
            UserError: as `source`.
        """
        import pandas as pd

        rows = Findings([self.source()]).flat()
        return pd.DataFrame(rows).drop(columns=["run", "variant"], errors="ignore")

    @configuration.pinned()
    def figure(self, name: str) -> Figure:
        """A figure of an analysis by its name, such as "surprisal" or "capacity".

        Raises:
            UserError: there is no such figure, or as `source`.
        """
        return Findings([self.source()], [registry.drawing(name).name]).figure(name)

    def trajectory(
        self,
        sample: int | None = None,
        lr: float | None = None,
        seed: int | None = None,
        *,
        as_published: bool = False,
    ) -> np.ndarray:
        """The measured embeddings of a lane's exact stages, float32 [S, K, D]; S is 0 if there are none.

        Args:
            sample, lr, seed: which lane.
            as_published: with the stage that failed.

        Raises:
            UserError: no lane fits, not all embeddings were kept, or as `source`.
        """
        lane = self.source().lane(sample, lr, seed)
        return (lane if as_published else lane.exact()).points_SxKxD

    def embedding(
        self,
        sample: int | None = None,
        lr: float | None = None,
        seed: int | None = None,
        *,
        stage: int | None = None,
    ) -> np.ndarray:
        """The measured embedding of one stage of a lane, float32 [K, D].

        Args:
            sample, lr, seed: which lane.
            stage: number of the stage from 0, a failed one included; None is the last exact one.

        Raises:
            UserError: the lane has no such stage, or as `trajectory`.
        """
        lane = self.source().lane(sample, lr, seed)
        number = _last_exact(lane) if stage is None else stage
        if not 0 <= number < len(lane.points_SxKxD):
            what = "no exact stage" if stage is None else f"no stage {stage}"
            raise UserError(f"{lane.job.key} has {what}; its stages are 0 to {len(lane.points_SxKxD) - 1}")
        return lane.points_SxKxD[number]

    def pca(self, sample: int | None = None, lr: float | None = None, seed: int | None = None) -> Basis:
        """The principal components of a lane's trajectory, mean-centred, and its coordinates in them.

        Raises:
            UserError: the lane has no exact stage, or as `trajectory`.
        """
        points_SxKxD = self.trajectory(sample, lr, seed)
        if not len(points_SxKxD):
            raise UserError("this lane has no exact stage, so no principal components; take another one")
        return Basis.of(points_SxKxD)


def _last_exact(lane: Lane) -> int:
    """-1 if there is none."""
    return int(np.flatnonzero(lane.exact_S).max(initial=-1))
