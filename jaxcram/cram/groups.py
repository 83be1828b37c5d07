"""Device groups: each runs chunks of passes independently of the others.

The host holds all lanes. A device holds only the lanes of its current batch: they are copied there when the
batch changes, and stay on the device while it does not.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcram.cram import chunk
from jaxcram.cram.chunk import ChunkResult, Limits
from jaxcram.cram.lanes import Bucket, Lanes, PassSettings
from jaxcram.cram.scheduler import Scheduler, Turn
from jaxcram.cram.stages import Stop
from jaxcram.devices import configuration, mesh
from jaxcram.devices.packed import Packed
from jaxcram.models.decoder import Decoder


class _Seats(NamedTuple):
    """The batch of one member on its devices when a chunk begins.

    Attributes:
        lanes: the lanes of the batch.
        active: how many lanes can go on, where lanes of other members count too.
    """

    lanes: Packed[Lanes]
    active: jax.Array | np.int32


class _Started(NamedTuple):
    """What a chunk leaves on the devices when it has finished.

    Attributes:
        seats: the batch of each member.
        result: the chunk's result.
    """

    seats: list[_Seats]
    result: Packed[ChunkResult]


class Chunk(NamedTuple):
    """A chunk that is running.

    Attributes:
        turn: the scheduler's choice of bucket and lanes.
        slots: index in the pool of the lane in each seat of the batch [S]; N or more is an empty seat.
        started: what it leaves on the devices.
        result: what it has measured, on the host.
    """

    turn: Turn
    slots: np.ndarray
    started: Future[_Started]
    result: Future[ChunkResult]

    def seats_after(self) -> list[_Seats]:
        """The batch of each member after the chunk; waits until the chunk has been dispatched."""
        return self.started.result().seats


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
        thread: dispatches the chunks. On a CPU device XLA runs programs of one thread one after the other,
            and programs of several threads at the same time.
        reader: waits for results and fetches them.
        chunk: the chunk that the host waits for, or waited for last.
        ahead: the next chunk, dispatched in the expectation that the batch stays the same.
    """

    members: list[_Member]
    whole: Mesh
    thread: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: configuration.threads(1))
    reader: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: configuration.threads(1))
    chunk: Chunk | None = None
    ahead: Chunk | None = None

    @property
    def divided(self) -> bool:
        """Whether a chunk's result is put together from several members."""
        return mesh.places(self.whole) > mesh.places(self.members[0].mesh)


@functools.partial(jax.jit, static_argnames="whole")
def _exchange(result: Packed[ChunkResult], whole: Mesh) -> tuple[Packed[ChunkResult], jax.Array]:
    """The result replicated over the mesh, and the number of lanes that can go on."""
    result = mesh.replicate(result, whole)
    return result, mesh.replicate(jnp.sum(result.unpack().active), whole)


class DeviceGroups:
    """The device groups of a run.

    In one process every group runs its own chunks. Several processes form one group, since each of them needs
    all results; a lane's passes are still the same program on one device, so its bits are the same.

    Args:
        model: the frozen decoder.
    """

    def __init__(self, model: Decoder) -> None:
        whole = mesh.of(model)
        members = [_Member(part, mesh.of(part)) for part in mesh.apart(model)]
        if whole.is_multi_process:
            self._groups = [_Group(members, whole)]
        else:
            self._groups = [_Group([member], member.mesh) for member in members]
        self._compiling: dict[Bucket, threading.Lock] = collections.defaultdict(threading.Lock)
        # On CPU the host competes with the devices for the cores.
        self._host_is_free = jax.default_backend() != "cpu" or len(self._groups) == 1

    def __len__(self) -> int:
        return len(self._groups)

    def start(self, scheduler: Scheduler, pool: Lanes, settings: PassSettings) -> None:
        """Dispatch a chunk on every group that is idle while lanes wait; returns at once.

        Args:
            scheduler: chooses the lanes.
            pool: all lanes, as numpy arrays.
            settings: the procedure.
        """
        for turn in scheduler.turns():
            group = self._groups[turn.group]
            ahead, group.ahead = group.ahead, None
            if not turn.stays:
                group.chunk = self._dispatch(group, turn, pool, settings)
            else:
                group.chunk = ahead or self._dispatch(group, turn, pool, settings, before=group.chunk)
        if self._host_is_free or scheduler.idle:
            for turn in scheduler.under_way:
                group = self._groups[turn.group]
                group.ahead = group.ahead or self._dispatch(group, turn, pool, settings, before=group.chunk)

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
            group.chunk = group.ahead = None

    def _dispatch(
        self, group: _Group, turn: Turn, pool: Lanes, settings: PassSettings, before: Chunk | None = None
    ) -> Chunk:
        """Dispatch a chunk.

        Args:
            group: where.
            turn: its lanes and their padded shape.
            pool: all lanes.
            settings: the procedure.
            before: the previous chunk with the same batch. If a lane of it ends or outgrows the bucket there,
                this chunk runs no pass: fewer lanes than its quorum are active.
        """
        seats: Callable[[], list[_Seats]]  # called in the group's thread
        if before:
            slots, quorum = before.slots, len(turn.seated)
            seats = before.seats_after
        else:
            # Round-robin over the devices, so that the last lanes of a run do not share one.
            devices, quorum = mesh.places(group.whole), 0
            slots_BxR = np.full((turn.bucket.lanes, devices), len(pool.problem.length), np.int32)
            slots_BxR.flat[: len(turn.seated)] = turn.seated
            slots = slots_BxR.T.reshape(-1)
            packed = Packed.of(seated_lanes(pool, slots, turn.bucket.tokens), devices)
            seats = functools.partial(self._sent, group, packed)
        started = group.thread.submit(self._run, group, turn, settings, seats, quorum)
        return Chunk(turn, slots, started, group.reader.submit(self._fetched, started))

    def _run(
        self,
        group: _Group,
        turn: Turn,
        settings: PassSettings,
        seats: Callable[[], list[_Seats]],
        quorum: int,
    ) -> _Started:
        """Dispatch the program of a chunk on every member."""
        before = seats()
        with self._compiling[turn.bucket]:  # so that no two threads compile the same program
            chunks = [
                # The abstract mesh: a chunk is traced once for all groups.
                chunk.run_chunk(
                    *(member.model, own.lanes, turn.bucket, settings, member.mesh.abstract_mesh),
                    Limits(turn.floor, quorum, own.active),
                )
                for member, own in zip(group.members, before, strict=True)
            ]
        after, results = [after for after, _ in chunks], [result for _, result in chunks]
        if not group.divided:
            return _Started([_Seats(after[0], np.int32(0))], results[0])
        result, total = _exchange(mesh.together(results, group.whole), group.whole)
        active = [mesh.local(total, member.mesh) for member in group.members]
        return _Started(list(map(_Seats, after, active)), result)

    @staticmethod
    def _fetched(started: Future[_Started]) -> ChunkResult:
        """The result of a chunk on the host; waits until the chunk has finished."""
        return jax.device_get(started.result().result).unpack()

    @staticmethod
    def _sent(group: _Group, packed: Packed[Lanes]) -> list[_Seats]:
        """The batch of each member on its devices; the number of active lanes is not needed yet."""
        if not group.divided:
            return [_Seats(mesh.replicated(packed, member.mesh), np.int32(0)) for member in group.members]
        devices, sent = group.whole.devices.flatten().tolist(), []
        for member in group.members:
            row = devices.index(member.mesh.devices.flat[0])
            own = jax.tree.map(lambda row_RxN, row=row: row_RxN[row : row + 1], packed)
            sent.append(_Seats(*mesh.replicated((own, np.int32(0)), member.mesh)))
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
