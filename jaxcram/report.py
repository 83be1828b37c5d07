"""What a person sees: progress while a run goes on, and the table at its end."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tqdm import tqdm

if TYPE_CHECKING:
    from jaxcram.cram.run import Progress
    from jaxcram.results import RunDirectory

LOG_SECONDS = 5.0


class Bar:
    """Progress of a run: a bar on stderr where it is wanted, and a line in the log every few seconds.

    A context manager, so that whatever is printed after an error starts on a line of its own.

    Args:
        visible: whether there is a bar.
    """

    def __init__(self, visible: bool) -> None:
        self._visible = visible
        self._bar: tqdm | None = None
        self._logged = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self, line: str) -> None:
        """A line of its own, above the bar if there is one already."""
        if self._visible:
            tqdm.write(line, file=sys.stderr)

    def __call__(self, progress: Progress, directory: RunDirectory) -> None:
        """Show the state after a chunk."""
        if self._bar is None:
            interval = 0.5 if sys.stderr.isatty() else 10.0
            form = "{n_fmt}/{total_fmt} lanes done [{elapsed}{postfix}]"
            self._bar = tqdm(
                total=progress.lanes, bar_format=form, mininterval=interval, disable=not self._visible
            )
        if progress.note:
            self.tell(progress.note)
        rate = progress.lane_steps / max(progress.seconds, 1e-9)
        self._bar.set_postfix_str(
            f"{progress.exact_tokens} tokens exact, {rate:.0f} steps/s, {remaining(progress)} left",
            refresh=False,
        )
        self._bar.update(progress.lanes - progress.alive - self._bar.n)
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS or progress.note or not progress.alive:
            self._logged = now
            directory.log({"event": "progress", **vars(progress)})


def remaining(progress: Progress) -> str:
    """Time left, if the lanes still alive take as many steps as those that have ended did on average."""
    done = progress.lanes - progress.alive
    if not done:
        return "?"
    steps = max(0.0, progress.ended_steps / done * progress.lanes - progress.lane_steps)
    seconds = round(steps / max(progress.lane_steps, 1) * progress.seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


COLUMNS = (
    "texts",
    "lr",
    "lanes",
    "horizon",
    "gain (bits)",
    "steps",
    "TF",
    "exact",
    "cached",
    "first mismatch",
)


def table(summary: dict[str, Any]) -> str:
    """The closing table, one line per kind of text and learning rate.

    Means over lanes: horizon in tokens, information gain in bits, optimiser steps, and the accuracy of
    teacher forcing and of both greedy decoders; then the earliest mismatch of a greedy decoder.
    """
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for lane in summary["lanes"]:
        groups.setdefault((lane["kind"], lane["learning_rate"]), []).append(lane)
    lines = [list(COLUMNS)]
    for (kind, rate), lanes in sorted(groups.items(), key=lambda item: (item[0][0] != "story", item[0])):
        lines.append(
            [
                kind,
                f"{rate:g}",
                str(len(lanes)),
                *(
                    f"{mean:.1f}" if (mean := _mean(lanes, name)) is not None else "-"
                    for name in ("horizon", "information_gain_bits", "steps")
                ),
                *(
                    f"{mean:.3f}" if (mean := _mean(lanes, f"{name}_accuracy")) is not None else "-"
                    for name in ("tf", "exact", "cached")
                ),
                _first_mismatch(lanes),
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def speed(summary: dict[str, Any]) -> str:
    """One line on time: of the run, of its compilation, and how much of the computation was needed."""
    line = f"{summary['wall_s']:.0f} s, of which {summary['compile_s']:.0f} s compiled programs"
    if summary["compile_saved_s"] >= 1:
        line += f" (the compilation cache saved {summary['compile_saved_s']:.0f} s)"
    if summary["useful_share"] is not None:
        line += f"; {summary['lane_steps']} steps of lanes in {summary['passes']} passes, "
        line += f"useful share {summary['useful_share']:.2f}"
    return line


def _mean(lanes: list[dict[str, Any]], name: str) -> float | None:
    values = [lane[name] for lane in lanes if lane[name] is not None]
    return statistics.fmean(values) if values else None


def _first_mismatch(lanes: list[dict[str, Any]]) -> str:
    """The earliest wrong token of either greedy decoder, as `decoder:index`."""
    found = [
        (lane[f"{name}_first_mismatch"], name)
        for lane in lanes
        for name in ("exact", "cached")
        if lane[f"{name}_first_mismatch"] is not None
    ]
    return f"{min(found)[1]}:{min(found)[0]}" if found else "none"
