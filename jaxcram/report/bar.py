"""The progress of a run, on stderr and in its log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from jaxcram.report.duration import duration
from jaxcram.report.outline import outline

if TYPE_CHECKING:
    from jaxcram.cram.outline import Outline
    from jaxcram.cram.progress import Progress
    from jaxcram.results.directory import RunDirectory

LOG_SECONDS = 5.0
LINE_SECONDS = 10.0  # between two lines if stderr is not a terminal


class Bar:
    """Shows the progress of a run on stderr, and logs it every few seconds.

    On a terminal it is a progress bar, elsewhere one line every `LINE_SECONDS`. A context manager, so that
    the bar is closed before an error is printed.

    Args:
        visible: whether to write to stderr.
        clock: returns seconds, from any origin.
    """

    def __init__(self, visible: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._visible = visible
        self._clock = clock
        self._bar: tqdm | None = None
        self._logged = self._shown = float("-inf")  # times of the last log event and line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, plan: Outline) -> None:
        """Show the outline of the run."""
        for line in outline(plan):
            self.tell(line)

    def tell(self, line: str) -> None:
        """Show one line, above the bar if there is one."""
        if self._visible:
            tqdm.write(line, file=sys.stderr)

    def __call__(self, progress: Progress, directory: RunDirectory) -> None:
        """Show and log the progress after a chunk."""
        if progress.note:
            self.tell(progress.note)
        now = self._clock()
        if self._visible and sys.stderr.isatty():
            self._draw(progress)
        elif now - self._shown >= LINE_SECONDS:
            self._shown = now
            done = f"{progress.lanes - progress.alive}/{progress.lanes} lanes done"
            self.tell(f"{done}, {duration(progress.seconds)} so far, {_state(progress)}")
        if now - self._logged >= LOG_SECONDS or progress.note or not progress.alive:
            self._logged = now
            directory.log({"event": "progress", **vars(progress)})

    def _draw(self, progress: Progress) -> None:
        done = progress.lanes - progress.alive
        if self._bar is None:
            form = "{n_fmt}/{total_fmt} lanes done [{elapsed}{postfix}]"
            self._bar = tqdm(total=progress.lanes, initial=done, bar_format=form, mininterval=0.5)
        self._bar.set_postfix_str(_state(progress), refresh=False)
        self._bar.update(done - self._bar.n)


def _state(progress: Progress) -> str:
    rate = progress.lane_steps / max(progress.seconds, 1e-9)
    left = duration(progress.left_s)
    return f"{progress.exact_tokens} tokens exact, {rate:.0f} steps/s, {left} left"
