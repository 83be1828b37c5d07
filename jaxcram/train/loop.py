"""The training loop: steps, log, checkpoints and interruption, for any model and any data.

A program defines the step and the batches (`Training`). A run that is interrupted or killed resumes from its
last checkpoint and ends with the same bits on the same devices.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from jaxcram.devices.interruption import StopRequest
from jaxcram.errors import Interrupted, UserError
from jaxcram.results.checkpoint import Checkpoints, Kind, Saved
from jaxcram.results.directory import RunDirectory
from jaxcram.results.reading import load_summary

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Pace:
    """The length of a training, and its intervals in steps.

    Attributes:
        steps: optimiser steps of the whole run.
        steps_matter_from: first step at which the learning rate depends on `steps`; a run that is past it
            must keep its `steps`.
        tokens: trained on in one step.
        checkpoint_every: steps between checkpoints.
        log_every: steps between log lines.
    """

    steps: int
    steps_matter_from: int
    tokens: int
    checkpoint_every: int
    log_every: int


@dataclasses.dataclass(frozen=True, eq=False)
class Training(Generic[S]):
    """What is trained, and how.

    Attributes:
        state: the initial pytree of arrays, with the shardings that it keeps. `step` may donate it, so the
            caller must not use it afterwards.
        step: (state, batch) -> (state, loss); jitted, and a function of its arguments alone.
        batch: number of the step, from 0 -> batch; a function of that number alone, so that runs can resume.
        keep: (state, steps done) -> figures for log and summary. Called after every checkpoint and at the
            end, to export the model and to evaluate it.
        pace: length and intervals.
    """

    state: S
    step: Callable[[S, Any], tuple[S, jax.Array]]
    batch: Callable[[int], Any]
    keep: Callable[[S, int], dict[str, Any]]
    pace: Pace


@dataclasses.dataclass(frozen=True)
class Position:
    """Progress of a training between two steps.

    Attributes:
        done: steps so far.
        seconds: of all starts.
        loss: mean over the last complete log interval; None before the first one.
        losses: of the steps since then.
        steps, steps_matter_from: of the `Pace` that the run had.
    """

    done: int = 0
    seconds: float = 0.0
    loss: float | None = None
    losses: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0
    steps_matter_from: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class _Kept:
    """What a checkpoint holds: the progress, and the leaves of the state by name."""

    position: Position
    leaves: dict[str, np.ndarray]

    def saved(self) -> Saved:
        return Saved(dataclasses.asdict(self.position), self.leaves, {})

    @classmethod
    def of(cls, saved: Saved) -> _Kept:
        return cls(Position(**saved.document), saved.arrays)


def finished(directory: RunDirectory, steps: int) -> dict[str, Any] | None:
    """The summary of a finished training; None if it is not finished.

    Raises:
        UserError: it is finished with another number of steps.
    """
    if not (directory.path / "summary.json").exists():
        return None
    summary = load_summary(directory.path)
    if not isinstance(summary.get("steps"), int):
        raise UserError(
            f"{directory.path / 'summary.json'}: lacks steps; remove it and start the same command again"
        )
    _require_steps(directory, summary["steps"], summary["steps"], steps)
    return summary


def train(training: Training[S], directory: RunDirectory, tell: Callable[[str], None]) -> dict[str, Any]:
    """Trains to the end, from the last checkpoint of the directory if there is one.

    Args:
        training: what is trained.
        directory: for log, checkpoints and summary.json.
        tell: prints a line of progress.

    Returns:
        The summary: steps, tokens (seen in training), train_loss (mean over the last log interval), wall_s
        (of all starts) and tokens_per_s, and the figures that `training.keep` returned.

    Raises:
        UserError: `steps` has changed and the learning rate of the steps done depends on it; or the loss is
            not finite.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        StoppedError: the disk is full or unavailable.
    """
    pace = training.pace
    with Checkpoints(directory, 0, Kind({}, _Kept.saved, _Kept.of)) as checkpoints:
        run = _Run(training, directory, tell, checkpoints.newest())
        with StopRequest() as request:
            while run.done < pace.steps:
                run.step()
                stop = request.after_chunk()
                last = run.done == pace.steps
                if last or run.done % pace.log_every == 0:
                    run.report()
                due = last or run.done % pace.checkpoint_every == 0
                if due or stop:
                    checkpoints.save(run.kept())
                    directory.log({"event": "checkpoint", "step": run.done})
                if stop:
                    checkpoints.close()
                    raise Interrupted(directory.path, stop)
                if due and not last:
                    run.keep()
        figures = run.keep()
        summary = {**run.figures(), **figures}
        directory.write_summary(summary)
        checkpoints.remove()
    return summary


class _Run(Generic[S]):
    """A running training."""

    def __init__(
        self,
        training: Training[S],
        directory: RunDirectory,
        tell: Callable[[str], None],
        kept: _Kept | None,
    ) -> None:
        self._training, self._directory, self._tell = training, directory, tell
        was = kept.position if kept else Position()
        pace = training.pace
        self._state = training.state
        if kept:
            matter_from = min(was.steps_matter_from, pace.steps_matter_from)
            if was.done > matter_from:
                _require_steps(directory, was.done, was.steps, pace.steps)
            self._state = _restored(training.state, kept.leaves)
        self.done, self._loss = was.done, was.loss
        self._losses: list[Any] = [*was.losses]  # floats, and scalars that are still on the device
        self._start = time.perf_counter() - was.seconds
        # Steps and seconds at the end of the first step of this start.
        self._compiled: tuple[int, float] | None = None
        devices = list(jax.tree.leaves(self._state)[0].devices())
        on = {"devices": len(devices), "device_kind": devices[0].device_kind}
        directory.log({"event": "start", "step": self.done, "steps": pace.steps, **on})

    def step(self) -> None:
        """Dispatches one step and waits for the previous one, so that a signal waits for two at most."""
        self._state, loss = self._training.step(self._state, self._training.batch(self.done))
        if self._losses:
            jax.block_until_ready(self._losses[-1])
        self._losses.append(loss)
        self.done += 1
        if self._compiled is None:
            jax.block_until_ready(loss)
            self._compiled = self.done, self._seconds()

    def report(self) -> None:
        """Prints and logs the mean loss since the last report."""
        pace, losses = self._training.pace, self._fetched()
        self._loss = math.fsum(losses) / len(losses)
        self._losses = []
        figures = self.figures()
        self._directory.log({"event": "train", **figures})
        self._tell(f"step {self.done}/{pace.steps}  loss {self._loss:.3f}{self._speed()}")

    def keep(self) -> dict[str, Any]:
        """Calls `Training.keep`, and logs its figures."""
        figures = self._training.keep(self._state, self.done)
        self._directory.log({"event": "evaluation", "step": self.done, **figures})
        return figures

    def figures(self) -> dict[str, Any]:
        """The training so far."""
        tokens, wall_s = self.done * self._training.pace.tokens, self._seconds()
        return {
            "steps": self.done,
            "tokens": tokens,
            "train_loss": self._loss,
            "wall_s": wall_s,
            "tokens_per_s": tokens / wall_s,
        }

    def kept(self) -> _Kept:
        """The content of a checkpoint; copied, because the next step donates the state."""
        pace = self._training.pace
        self._losses = self._fetched()
        position = Position(
            done=self.done,
            seconds=self._seconds(),
            loss=self._loss,
            losses=self._losses,
            steps=pace.steps,
            steps_matter_from=pace.steps_matter_from,
        )
        return _Kept(position, {name: np.array(leaf) for name, leaf in _named(self._state).items()})

    def _fetched(self) -> list[float]:
        """The losses since the last report.

        Raises:
            UserError: one of them is not finite.
        """
        losses = [float(loss) for loss in jax.device_get(self._losses)]
        if wrong := [loss for loss in losses if not math.isfinite(loss)]:
            raise UserError(
                f"step {self.done}: the loss is {wrong[0]}; lower the learning rate, and choose another "
                f"directory than {self._directory.path}"
            )
        return losses

    def _seconds(self) -> float:
        return time.perf_counter() - self._start

    def _speed(self) -> str:
        """Speed and time left, measured after the first step of this start, which compiles."""
        assert self._compiled is not None
        steps, seconds = self.done - self._compiled[0], self._seconds() - self._compiled[1]
        if not steps:
            return ""
        pace = self._training.pace
        left = (pace.steps - self.done) * seconds / steps
        return f"  {steps * pace.tokens / seconds:,.0f} tokens/s  {left / 60:.1f} min left"


def _require_steps(directory: RunDirectory, done: int, was: int, now: int) -> None:
    if was != now:
        raise UserError(
            f"steps={now}: the run in {directory.path} is at step {done} of {was}, and its learning rate "
            "already depends on that; keep it, or choose another directory"
        )


def _named(state: Any) -> dict[str, Any]:
    """The leaves of a state by their paths, so that checkpoints do not depend on its classes."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.flatten_with_path(state)[0]}


def _restored(state: S, leaves: dict[str, np.ndarray]) -> S:
    """The values of a checkpoint, with the structure and shardings of `state`.

    Raises:
        UserError: names, shapes or dtypes differ.
    """
    wanted = {name: (leaf.shape, leaf.dtype) for name, leaf in _named(state).items()}
    if wanted != {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}:
        raise UserError(
            "the checkpoints are of another version of jaxcram; remove the folder checkpoints of the run: "
            "the training starts again"
        )
    values = [jax.device_put(leaves[name], leaf.sharding) for name, leaf in _named(state).items()]
    return jax.tree.unflatten(jax.tree.structure(state), values)
