"""The outline of a run: its model, devices, lanes and passes, known before anything is computed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np

from jaxcram.cram.fit import Fit
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.snapshot import Snapshot
from jaxcram.devices import mesh, processes
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import Sample


@dataclasses.dataclass(frozen=True)
class Outline:
    """A run before it starts.

    Attributes:
        out: the run directory.
        model: name of the frozen model.
        parameters, layers, width: size of the model.
        dtype: precision of the model.
        devices: number of devices of each kind.
        processes: number of processes.
        lengths: tokens of every target.
        settings: the procedure.
        finished: lanes that an earlier start has finished.
        saved: lanes that resume from a checkpoint.
        passes: the shapes of passes on one device; empty if they are still to be measured.
        at_once: passes that run at once; 0 likewise.
    """

    out: str
    model: str
    parameters: int
    layers: int
    width: int
    dtype: str
    devices: dict[str, int]
    processes: int
    lengths: tuple[int, ...]
    settings: CramSettings
    finished: int
    saved: int
    passes: tuple[Bucket, ...] = ()
    at_once: int = 0

    def planned(self, fit: Fit | None) -> Outline:
        """The outline with the passes of a fit; None leaves them to be measured."""
        if fit is None:
            return self
        return dataclasses.replace(self, passes=fit.plan.buckets, at_once=fit.plan.at_once)

    @property
    def lanes(self) -> int:
        """Lanes of the whole run."""
        return len(self.lengths) * len(self.settings.learning_rates) * len(self.settings.seeds)


def outline(
    out: str,
    model: tuple[str, Decoder],
    samples: Sequence[Sample],
    settings: CramSettings,
    finished: int,
    saved: Snapshot | None = None,
) -> Outline:
    """The outline of a run, its passes apart (`Outline.planned`).

    Args:
        out: the run directory.
        model: name and decoder.
        samples: the targets.
        settings: the procedure.
        finished: number of lanes that an earlier start has finished.
        saved: the unfinished lanes of the newest checkpoint, if any.
    """
    name, decoder = model
    config, whole = decoder.config, mesh.of(decoder)
    kinds = Counter(_kind(device) for device in whole.devices.flat)
    lengths = tuple(len(sample.tokens) for sample in samples)
    return Outline(
        out=out,
        model=name,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(decoder)),
        layers=config.num_layers,
        width=config.width,
        dtype=str(np.dtype(decoder.dtype)),
        devices=dict(kinds),
        processes=processes.count(),
        lengths=lengths,
        settings=settings,
        finished=finished,
        saved=len(saved.lanes) if saved else 0,
    )


def _kind(device: jax.Device) -> str:
    """Platform and model of a device, such as `gpu (NVIDIA H100 80GB HBM3)`."""
    model = mesh.cpu_model() if device.platform == "cpu" else device.device_kind
    return f"{device.platform} ({model})" if model else device.platform
