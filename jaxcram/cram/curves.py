"""Curves: one point of each lane every `log_every` optimiser steps, from the device's records."""

from __future__ import annotations

import functools
import math

import jax
import numpy as np

from jaxcram.cram import optimizer
from jaxcram.cram.lanes import Record
from jaxcram.cram.rows import Collected, mean_loss, of_pass
from jaxcram.cram.settings import CramSettings, OptimizerSettings
from jaxcram.cram.stages import Stop
from jaxcram.results.table import Job

_BLOCK = 4096  # steps whose learning rates are computed at once


class LaneCurve(Collected):
    """Collects the points of one lane's curve (`jaxcram.results.curves.COLUMNS`).

    There is one point for every multiple of `log_every`, from the first pass that measured the lane after
    that many steps. The last point is from the pass that ended the lane; it replaces one of the same step.

    Args:
        job: of the lane.
        settings: of the run.
    """

    def __init__(self, job: Job, settings: CramSettings) -> None:
        super().__init__()
        self._job = job
        self._settings = settings

    def take(self, records: Record) -> None:
        """Add the points of a chunk.

        Args:
            records: the lane's records as NumPy arrays [P, ..], without passes that did not run.
        """
        every, step_P = self._settings.log_every, records.total_steps
        if not every:
            return
        first = max(int(step_P[0]), self.rows[-1]["step"] + 1 if self.rows else 0)
        for step in range(-(-first // every) * every, int(step_P[-1]) + 1, every):
            self._add(of_pass(records, int(np.searchsorted(step_P, step))))
        if records.stop[-1] != Stop.RUNNING:
            if self.rows and self.rows[-1]["step"] == step_P[-1]:
                self.rows.pop()
            self._add(of_pass(records, int(np.argmax(records.stop != Stop.RUNNING))))

    def _add(self, one: Record) -> None:
        prefix, step = int(one.prefix), int(one.total_steps)
        full = self._settings.stages.mode == "full"
        self.rows.append(
            {
                **vars(self._job),
                "point_index": len(self.rows),
                "step": step,
                "prefix": prefix,
                "horizon": int(one.exact if full else one.horizon),
                "loss": _finite(mean_loss(one, prefix)),
                "accuracy": int(one.correct) / prefix,
                "step_learning_rate": self._learning_rate(step),
                "embedding_norm": _finite(math.sqrt(np.sum(np.square(one.mem, dtype=np.float64)))),
            }
        )

    def _learning_rate(self, step: int) -> float:
        block, index = divmod(step, _BLOCK)
        settings = self._settings
        rates = _learning_rates(block, self._job.learning_rate, settings.stages.max_steps, settings.optimizer)
        return float(rates[index])


@functools.lru_cache(maxsize=256)
def _learning_rates(block: int, peak: float, decay_steps: int, settings: OptimizerSettings) -> np.ndarray:
    """Learning rates of a block of steps; by blocks, since each call waits for the device's current chunk."""
    steps = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.int32)
    return np.asarray(_schedule(steps, np.full(_BLOCK, peak, np.float32), decay_steps, settings))


_schedule = jax.jit(optimizer.learning_rate, static_argnums=(2, 3))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
