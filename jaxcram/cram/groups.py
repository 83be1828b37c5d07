"""Device groups: each runs chunks of passes independently of the others.

The host holds all lanes. A device holds only the lanes of its current batch: they are copied there when the
batch changes, and stay on the device while it does not.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxcram.cram import chunk
from jaxcram.cram.chunk import ChunkResult
from jaxcram.cram.lanes import Bucket, Lanes, PassSettings
from jaxcram.cram.scheduler import Scheduler, Turn
from jaxcram.cram.stages import Stop
from jaxcram.devices import configuration, mesh
from jaxcram.devices.packed import Packed
from jaxcram.models.decoder import Decoder


class Chunk(NamedTuple):
    """A chunk that is running.

    Attributes:
        turn: the scheduler's choice of bucket and lanes.
        slots: index in the pool of the lane in each seat of the batch [S]; N or more is an empty seat.
        result: what it has measured, on the host.
    """

    turn: Turn
    slots: np.ndarray
    result: Future[ChunkResult]


class _Member(NamedTuple):
    """The devices that run one program, and the frozen decoder on them."""

    model: Decoder
    mesh: Mesh


@dataclasses.dataclass
class _Group:
    """The devices that run the same chunk.

    Attributes:
        members: the members on devices of this process.
        whole: the mesh of all members.
        thread: runs the chunks. On a CPU device XLA runs programs of one thread one after the other, and
            programs of several threads at the same time.
        chunk: the chunk under way, or the last one.
        seats: the lanes that the last chunk left on the devices of each member.
    """

    members: list[_Member]
    whole: Mesh
    thread: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: configuration.threads(1))
    chunk: Chunk | None = None
    seats: list[Packed[Lanes]] = dataclasses.field(default_factory=list)

    @property
    def divided(self) -> bool:
        """Whether a chunk's result is put together from several members."""
        return mesh.places(self.whole) > mesh.places(self.members[0].mesh)


@functools.partial(jax.jit, static_argnames="whole")
def _whole(result: Packed[ChunkResult], whole: Mesh) -> Packed[ChunkResult]:
    """The result, replicated over the mesh."""
    return mesh.replicate(result, whole)


class DeviceGroups:
    """The device groups of a run.

    In one process every group runs its own chunks. Several processes form one group, since each of them needs
    all results; a lane's passes are still the same program on one device, so its bits are the same.

    Args:
        model: the frozen decoder.
        at_once: number of groups that share the cores of a CPU; other devices have a group each.
    """

    def __init__(self, model: Decoder, at_once: int = 1) -> None:
        whole = mesh.of(model)
        members = [_Member(part, mesh.of(part)) for part in mesh.apart(model, at_once)]
        if whole.is_multi_process:
            self._groups = [_Group(members, whole)]
        else:
            self._groups = [_Group([member], member.mesh) for member in members]
        self._compiling: dict[Bucket, threading.Lock] = collections.defaultdict(threading.Lock)

    def __len__(self) -> int:
        return len(self._groups)

    def start(self, scheduler: Scheduler, pool: Lanes, settings: PassSettings) -> None:
        """Start a chunk on every group that is idle while lanes wait; returns at once.

        Args:
            scheduler: chooses the lanes.
            pool: all lanes, as numpy arrays.
            settings: the procedure.
        """
        for turn in scheduler.turns():
            group = self._groups[turn.group]
            if turn.stays and group.chunk:
                slots, packed = group.chunk.slots, None
            else:
                # Round-robin over the devices, so that the last lanes of a run do not share one.
                devices = mesh.places(group.whole)
                slots_BxR = np.full((turn.bucket.lanes, devices), len(pool.problem.length), np.int32)
                slots_BxR.flat[: len(turn.seated)] = turn.seated
                slots = slots_BxR.T.reshape(-1)
                packed = Packed.of(seated_lanes(pool, slots, turn.bucket.tokens), devices)
            result = group.thread.submit(self._run, group, turn.bucket, turn.floor, settings, packed)
            group.chunk = Chunk(turn, slots, result)

    def wait(self, turns: list[Turn]) -> tuple[Chunk, ChunkResult]:
        """Wait until the chunk of one of these turns has finished; the chunk and what it has measured.

        If several have finished, it is that of the first turn. The error of a failed chunk is raised here.
        """
        chunks = [chunk for turn in turns if (chunk := self._groups[turn.group].chunk)]
        futures.wait([chunk.result for chunk in chunks], return_when=futures.FIRST_COMPLETED)
        ended = next(chunk for chunk in chunks if chunk.result.done())
        return ended, ended.result.result()

    def drop(self) -> None:
        """Forget all running chunks."""
        for group in self._groups:
            group.chunk, group.seats = None, []

    def seconds(self, lanes: Callable[[int], Lanes], bucket: Bucket, settings: PassSettings) -> float:
        """Seconds of a pass while every group runs a chunk.

        Args:
            lanes: makes so many lanes to run.
            bucket: padded shape of the pass on one device.
            settings: the procedure.
        """
        batches = []
        for group in self._groups:
            shards = mesh.places(group.whole)
            batches.append(Packed.of(lanes(bucket.lanes * shards), shards))
        start = time.perf_counter()
        running = [
            group.thread.submit(self._run, group, bucket, 1, settings, packed)
            for group, packed in zip(self._groups, batches, strict=True)
        ]
        passes = [future.result().passes.max() for future in running]
        return (time.perf_counter() - start) / float(np.mean(passes))

    def _run(
        self, group: _Group, bucket: Bucket, floor: int, settings: PassSettings, packed: Packed[Lanes] | None
    ) -> ChunkResult:
        """Run a chunk on every member; with the lanes that are there, where none are given."""
        seats = group.seats if packed is None else self._sent(group, packed)
        with self._compiling[bucket]:  # so that no two threads compile the same program
            # The abstract mesh: a chunk is traced once for all groups.
            chunks = [
                chunk.run_chunk(member.model, own, bucket, settings, member.mesh.abstract_mesh, floor)
                for member, own in zip(group.members, seats, strict=True)
            ]
        group.seats, results = [after for after, _ in chunks], [result for _, result in chunks]
        result = results[0]
        if group.divided:
            result = _whole(mesh.together(results, group.whole), group.whole)
        return jax.device_get(result).unpack()

    @staticmethod
    def _sent(group: _Group, packed: Packed[Lanes]) -> list[Packed[Lanes]]:
        """The batch of each member on its devices."""
        if not group.divided:
            return [mesh.replicated(packed, member.mesh) for member in group.members]
        devices, sent = group.whole.devices.flatten().tolist(), []
        for member in group.members:
            row = devices.index(member.mesh.devices.flat[0])
            own = jax.tree.map(lambda row_RxN, row=row: row_RxN[row : row + 1], packed)
            sent.append(mesh.replicated(own, member.mesh))
        return sent


def seated_lanes(pool: Lanes, slots_S: np.ndarray, length: int) -> Lanes:
    """A batch: copies of lanes of the pool with their first `length` tokens.

    Args:
        pool: all N lanes, as numpy arrays.
        slots_S: index of the lane in each seat; an empty seat has N, and gets a lane that has ended.
        length: padded tokens of the pass.
    """
    vacant_S = slots_S == len(pool.problem.length)
    seats = jax.tree.map(lambda x: x[np.where(vacant_S, 0, slots_S)], pool)
    seats.progress.stop[vacant_S] = Stop.COMPLETE
    return seats._replace(problem=seats.problem._replace(tokens=seats.problem.tokens[:, :length]))
