"""The run: samples x learning rates x seeds as lanes of one pool, until every lane has ended."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JaxRuntimeError

from jaxcram.cram import lanes, snapshot
from jaxcram.cram.chunk import ChunkResult
from jaxcram.cram.curves import LaneCurve
from jaxcram.cram.fit import Fit
from jaxcram.cram.groups import Chunk, DeviceGroups
from jaxcram.cram.lanes import Lanes, PassSettings, Record
from jaxcram.cram.progress import Progress
from jaxcram.cram.rows import Ended, LaneRows
from jaxcram.cram.scheduler import Scheduler
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.snapshot import Snapshot
from jaxcram.cram.stages import Stop
from jaxcram.cram.start import alone_nll, initial_embeddings, mean_token_norm
from jaxcram.cram.time_left import TimeLeft
from jaxcram.devices import device_memory, processes
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample, pad_tokens


class Engine:
    """Lanes and their rows on the host, chunks of passes on the devices, and the loop between them.

    The state of lanes is read back with every chunk's result. So the host can move a lane to any device, save
    it, and go on when device memory runs out.

    Args:
        model: the frozen decoder.
        samples: the texts.
        settings: the procedure.
        jobs: the lanes to run, without those that an earlier start has finished.
        fit: how the run is fitted to its devices.
        saved: the unfinished lanes of an earlier start; those among `jobs` resume from it.
    """

    def __init__(
        self,
        model: Decoder,
        samples: list[Sample],
        settings: CramSettings,
        jobs: list[Job],
        fit: Fit,
        saved: Snapshot | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._jobs = jobs
        needed = {job.sample_id for job in jobs}
        self._tokens = {sample.sample_id: sample.tokens for sample in samples if sample.sample_id in needed}
        length_N = np.array([len(self._tokens[job.sample_id]) for job in jobs], np.int32)
        self.fit = fit
        # Where several share the cores of a CPU, one more computes while another waits for the host.
        self._groups = DeviceGroups(model, fit.plan.at_once + (fit.plan.at_once > 1))
        self._scheduler = Scheduler(len(jobs), fit.plan, len(self._groups))
        self._pass = PassSettings.of(settings, fit.remat)
        self.progress = Progress(len(jobs), len(jobs), fit.plan.token_budget, fit.remat, note=fit.note)
        nll = self._alone_nll()
        start_NxKxD = initial_embeddings(model, jobs, settings)
        self._lanes = self._fresh_lanes(length_N, start_NxKxD)
        self._ended: list[int] = []  # slots of lanes that are still to be yielded
        token_norm = mean_token_norm(model)
        self._rows = [
            LaneRows(job, nll[job.sample_id], start_KxD, settings.stages, settings.trajectory, token_norm)
            for job, start_KxD in zip(jobs, start_NxKxD, strict=True)
        ]
        self._curves = [LaneCurve(job, settings) for job in jobs]
        if saved:
            self._resume(saved)
        now = self._lanes.progress
        self._scheduler.observe(np.arange(len(jobs)), np.asarray(now.prefix), np.asarray(now.stop))
        self._time_left = TimeLeft(settings.stages, length_N)
        self._start = time.perf_counter()  # of the chunks

    def _resume(self, saved: Snapshot) -> None:
        """Put the lanes of a snapshot where they were."""
        slot_of = {job.key: slot for slot, job in enumerate(self._jobs)}
        found = [i for i, key in enumerate(saved.lanes) if key in slot_of]
        keys = [key for key in saved.lanes if key in slot_of]
        slots = np.array([slot_of[key] for key in keys], np.int32)
        state = {name: leaf[found] for name, leaf in saved.state.items()}
        if not keys:
            return
        snapshot.restore(self._lanes.state, slots, state)
        for key, slot in zip(keys, slots, strict=True):
            rows = self._rows[slot]
            rows.restore(saved.rows[key])
            self._curves[slot].restore(saved.curves.get(key, []))
            self.progress.exact_tokens += rows.horizon

    def snapshot(self, totals: dict[str, float]) -> Snapshot:
        """The lanes under way, after the chunks that have been yielded; the next chunk goes on meanwhile.

        Args:
            totals: what the run has spent, to be kept with them.
        """
        running = np.flatnonzero(self._lanes.progress.stop == Stop.RUNNING)
        rows = {self._jobs[slot].key: self._rows[slot] for slot in running}
        curves = {self._jobs[slot].key: self._curves[slot] for slot in running}
        return Snapshot(
            lanes={key: len(of_lane.rows) for key, of_lane in rows.items()},
            state={name: leaf[running] for name, leaf in snapshot.named(self._lanes.state).items()},
            rows={key: of_lane.new_rows() for key, of_lane in rows.items()},
            totals=totals,
            points={key: len(curve.rows) for key, curve in curves.items() if curve.rows},
            curves={key: curve.new_rows() for key, curve in curves.items()},
        )

    def _fresh_lanes(self, length_N: np.ndarray, start_NxKxD: np.ndarray) -> Lanes:
        """The lanes at their start, as numpy arrays."""
        targets = [self._tokens[job.sample_id] for job in self._jobs]
        tokens_NxM = pad_tokens(targets, len(targets), self.fit.plan.buckets[-1].tokens)
        peak_N = np.array([job.learning_rate for job in self._jobs], np.float32)
        pool = lanes.init_pool(
            lanes.Problem(jnp.asarray(tokens_NxM), jnp.asarray(length_N), jnp.asarray(peak_N)),
            jax.tree.map(jnp.asarray, self._pass.parametrization.init(start_NxKxD)),
            self._pass,
        )
        return jax.tree.map(np.array, pool)

    def _alone_nll(self) -> dict[int, np.ndarray]:
        """Of every text under the model alone; a model that gives no numbers there is refused."""
        try:
            nll = alone_nll(self._model, self._tokens, self.fit.plan.buckets[-1].tokens)
        except JaxRuntimeError as error:
            if not device_memory.ran_out(error):
                raise
            raise UserError(
                "out of device memory with one text under the model alone: use max_tokens=N, "
                "dtype=bfloat16, mesh=model:N, a smaller model or a larger device"
            ) from error
        for sample_id, nll_T in nll.items():
            if not np.all(np.isfinite(nll_T)):
                raise UserError(
                    f"sample {sample_id}: its loss under the model alone is {nll_T[~np.isfinite(nll_T)][0]}, "
                    f"so the model's weights or its arithmetic ({np.dtype(self._model.dtype)}) are broken; "
                    "check the checkpoint, or try another dtype"
                )
        return nll

    def _shrink(self, error: JaxRuntimeError, widest: int) -> None:
        """Choose smaller passes after device memory ran out, and at last to recompute layers.

        `widest` is the most lanes of a pass that may have failed: fewer do not help where it is one.
        Of several processes one cannot shrink its passes alone: it says what to start again with.

        Raises:
            UserError: there is nothing smaller, or nothing that this process may choose.
        """
        smaller = self.fit.plan.halved() if widest > 1 else None
        if not smaller and (self.fit.remat or self._settings.remat is not None):
            remedy = "" if self.fit.remat else "remat, "
            raise UserError(
                f"out of device memory with one lane in a pass: use {remedy}dtype=bfloat16, "
                "mesh=model:N, a smaller model or a larger device"
            ) from error
        instead = f"token_budget={smaller.token_budget}" if smaller else "remat"
        if processes.count() > 1:
            raise UserError(
                f"out of device memory: start the same command again with {instead}; "
                "what is finished was kept"
            ) from error
        remat = self.fit.remat or smaller is None
        self.fit = dataclasses.replace(self.fit, plan=smaller or self.fit.plan, remat=remat)
        self._scheduler.plan = self.fit.plan
        self._pass = PassSettings.of(self._settings, self.fit.remat)
        self.progress.token_budget = self.fit.plan.token_budget
        self.progress.remat = self.fit.remat
        self.progress.note = f"out of device memory: going on as with {instead}"

    def _chunk(self) -> None:
        """Wait for a chunk, dispatch the next one on its group, and then record what the first measured."""
        if not self._scheduler.under_way:  # at first, or after a loss
            self._groups.start(self._scheduler, self._lanes, self._pass)
        chunk, result = self._groups.wait(self._scheduler.under_way)
        taken = chunk.slots < len(self._jobs)
        for of_all, of_seats in zip(*map(jax.tree.leaves, (self._lanes.state, result.state)), strict=True):
            of_all[chunk.slots[taken]] = of_seats[taken]
        seated, progress = chunk.turn.seated, self._lanes.progress
        prefix_B, stop_B = np.asarray(progress.prefix)[seated], np.asarray(progress.stop)[seated]
        self._scheduler.done(chunk.turn, prefix_B, stop_B)
        try:  # before the records are read, so that the device does not wait
            self._groups.start(self._scheduler, self._lanes, self._pass)
        finally:
            self._book(chunk, result)

    def _book(self, chunk: Chunk, result: ChunkResult) -> None:
        """Record what a chunk has measured."""
        passes, shares = int(result.passes.max()), len(result.passes)
        self.progress.passes += passes * shares  # a device that waits for the slowest counts as busy
        self.progress.lane_steps += int(result.lane_steps.sum())
        self._time_left.book(
            time.perf_counter() - self._start, self._scheduler, chunk.turn.bucket, passes * shares
        )
        self.progress.useful_tokens += int(result.useful_tokens.sum())
        self.progress.paid_tokens += passes * len(chunk.slots) * chunk.turn.bucket.tokens
        for seat in np.flatnonzero(chunk.slots < len(self._jobs)):
            slot = chunk.slots[seat]
            rows = self._rows[slot]
            own_passes = int(result.passes[seat // chunk.turn.bucket.lanes])
            if not own_passes:
                continue
            records = Record(*(field[seat, :own_passes] for field in result.records))
            self._curves[slot].take(records)
            self.progress.exact_tokens -= rows.horizon
            if rows.take(records, chunk.turn.bucket):
                self._ended.append(slot)
            self.progress.exact_tokens += rows.horizon
        self.progress.alive = self._scheduler.alive

    def lanes(self, show: Callable[[Progress], None]) -> Iterator[Ended]:
        """Run to the end; yields every lane as soon as it has ended.

        Args:
            show: called after every chunk.
        """
        for ended in self.chunks(show):
            yield from ended

    def chunks(self, show: Callable[[Progress], None]) -> Iterator[list[Ended]]:
        """Run to the end; yields after every chunk the lanes that ended in it.

        While the host reads a chunk, the devices run the next one.

        Args:
            show: called after every chunk.
        """
        self._start = time.perf_counter()
        while self.progress.alive:
            ended = self._advance()
            self.progress.seconds = time.perf_counter() - self._start
            self.progress.left_s = self._time_left.seconds(self._scheduler, self._lanes.progress, self._rows)
            show(self.progress)
            self.progress.note = ""
            yield [Ended(*self._rows[slot].finished(), self._curves[slot].rows) for slot in ended]

    def _advance(self) -> list[int]:
        """One chunk, in passes that fit the memory; the numbers of the lanes that ended in it."""
        while True:
            try:
                self._chunk()
                break
            except JaxRuntimeError as error:
                widest = max((turn.bucket.lanes for turn in self._scheduler.under_way), default=1)
                self._groups.drop()
                self._scheduler.drop()
                if not device_memory.ran_out(error):
                    raise
                self._shrink(error, widest)
        ended, self._ended = self._ended, []
        return ended
