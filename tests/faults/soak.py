"""Run for long, and see whether memory grows or speed falls.

    python tests/faults/soak.py --minutes=30

Hundreds of lanes of stories on the bundled model, with checkpoints, again and again under new seeds, until
the time is over. Every few seconds the resident memory and the steps taken are noted. After the first fifth,
in which programs are compiled and buffers grow to their size, a line is fitted to each.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxcram import api, report
from jaxcram.cram.progress import Progress
from jaxcram.errors import Interrupted
from jaxcram.results.directory import RunDirectory

INTERVAL = 2.0  # seconds between two samples


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Samples:
    """Time in hours, resident memory in MB, and optimiser steps of all lanes, every few seconds."""

    def __init__(self, minutes: float) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self.starts_mb: list[float] = []  # resident memory when each run begins: rows of lanes come and go
        self._start = time.monotonic()
        self._end = self._start + minutes * 60
        self._steps_before, self._steps = 0, 0
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            hours = (time.monotonic() - self._start) / 3600
            self.rows.append((hours, resident_mb(), self._steps_before + self._steps))
            time.sleep(INTERVAL)

    def look(self, steps: int) -> None:
        """Called after every chunk, with the steps of this run."""
        if steps < self._steps:
            self._steps_before += self._steps
        self._steps = steps
        if time.monotonic() >= self._end:
            os.kill(os.getpid(), signal.SIGTERM)  # the run ends after this chunk, as it should

    def report(self) -> str:
        """The slopes, after the first fifth."""
        hours, memory, steps = np.array(self.rows[len(self.rows) // 5 :]).T
        slope, _ = np.polyfit(hours, memory, 1)
        middle = len(hours) // 2
        first = (steps[middle] - steps[0]) / (hours[middle] - hours[0]) / 3600
        second = (steps[-1] - steps[middle]) / (hours[-1] - hours[middle]) / 3600
        return (
            f"{len(self.rows)} samples in {self.rows[-1][0] * 60:.1f} minutes\n"
            f"memory: {memory[0]:.0f} MB after the first fifth, {memory[-1]:.0f} MB at the end, "
            f"at most {memory.max():.0f} MB; slope {slope:+.1f} MB/hour\n"
            f"memory at the start of each run: {', '.join(f'{x:.0f}' for x in self.starts_mb)} MB\n"
            f"speed: {first:.0f} steps/s in the first half, {second:.0f} in the second "
            f"({100 * (second / first - 1):+.1f}%)"
        )


def soak(minutes: float, lanes: int) -> str:
    """Runs until the time is over; the report."""
    samples, rates = Samples(minutes), (0.01, 0.1, 0.5, 1.0)
    show = report.Bar.__call__

    def showing(bar: report.Bar, progress: Progress, directory: RunDirectory) -> None:
        show(bar, progress, directory)
        samples.look(progress.lane_steps)

    report.Bar.__call__ = showing
    model = api.load_model()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(10**6):
            samples.starts_mb.append(resident_mb())
            try:
                api.cram(
                    model,
                    f"stories:{lanes // len(rates)}",
                    out=Path(folder, f"run{seed}"),
                    learning_rates=rates,
                    seeds=(seed,),
                    checkpoint_minutes=1.0,
                    verbose=False,
                )
            except Interrupted:
                break
    return samples.report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long")
    parser.add_argument("--lanes", type=int, default=400, help="lanes of one run")
    options = parser.parse_args()
    print(soak(options.minutes, options.lanes))
