"""Where chunks run: groups of devices that take lanes by themselves, and what each of them is at.

The host has all lanes. A chunk is sent those that sit in it, unless they sat in the chunk before, which has
left them on the devices.
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

from jaxcram.cram import lanes
from jaxcram.cram.lanes import Bucket, ChunkResult, Lanes, Limits, PassSettings
from jaxcram.cram.scheduler import Scheduler, Turn
from jaxcram.cram.stages import Stop
from jaxcram.devices import configuration, mesh
from jaxcram.devices.packed import Packed
from jaxcram.models.decoder import Decoder


class _Seats(NamedTuple):
    """What a member has on its devices when a chunk begins.

    Attributes:
        lanes: those that sit there.
        active: how many can go on, where those of other members count too.
    """

    lanes: Packed[Lanes]
    active: jax.Array | np.int32


class _Started(NamedTuple):
    """What a chunk under way leaves on the devices, when it is done.

    Attributes:
        seats: those of each member.
        result: what it reports.
    """

    seats: list[_Seats]
    result: Packed[ChunkResult]


class Chunk(NamedTuple):
    """A chunk under way.

    Attributes:
        turn: what the scheduler has chosen.
        slots: who sits where [S]; a number beyond the lanes is an empty seat.
        started: what it leaves.
        result: what it has measured, on the host.
    """

    turn: Turn
    slots: np.ndarray
    started: Future[_Started]
    result: Future[ChunkResult]

    def seats_after(self) -> list[_Seats]:
        """Those of each member, when it has been started."""
        return self.started.result().seats


class _Member(NamedTuple):
    """Devices that run one program: the frozen decoder on them, and they themselves."""

    model: Decoder
    mesh: Mesh


@dataclasses.dataclass
class _Place:
    """Devices that take a turn together.

    Attributes:
        members: those of this process.
        whole: the mesh of all of them.
        thread: starts its chunks; XLA runs what one thread starts on a CPU device in turn, and what several
            do at once.
        reader: waits for its results and fetches them.
        chunk: what the host waits for, or has waited for last.
        ahead: the chunk after it, if the lanes keep their seats.
    """

    members: list[_Member]
    whole: Mesh
    thread: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: configuration.threads(1))
    reader: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: configuration.threads(1))
    chunk: Chunk | None = None
    ahead: Chunk | None = None

    @property
    def divided(self) -> bool:
        """Whether the results of several members make up that of a chunk."""
        return mesh.places(self.whole) > mesh.places(self.members[0].mesh)


@functools.partial(jax.jit, static_argnames="whole")
def _exchange(result: Packed[ChunkResult], whole: Mesh) -> tuple[Packed[ChunkResult], jax.Array]:
    """A result whole on every device, and how many lanes can go on after it."""
    result = mesh.replicate(result, whole)
    return result, mesh.replicate(jnp.sum(result.unpack().active), whole)


class Places:
    """The devices of a run.

    Those of one process take turns by themselves. Several processes take every turn together, since each of
    them needs all results, but a lane's passes are the same program on one device: it has the same bits.

    Args:
        model: the frozen decoder.
    """

    def __init__(self, model: Decoder) -> None:
        whole = mesh.of(model)
        members = [_Member(part, mesh.of(part)) for part in mesh.apart(model)]
        if whole.is_multi_process:
            self._places = [_Place(members, whole)]
        else:
            self._places = [_Place([member], member.mesh) for member in members]
        self._compiling: dict[Bucket, threading.Lock] = collections.defaultdict(threading.Lock)
        # On CPU the host needs one of the cores that compute.
        self._host_is_free = jax.default_backend() != "cpu" or len(self._places) == 1

    def __len__(self) -> int:
        return len(self._places)

    def start(self, scheduler: Scheduler, pool: Lanes, settings: PassSettings) -> None:
        """Start a chunk wherever none is under way and lanes wait; nothing waits for it.

        Args:
            scheduler: knows who waits.
            pool: all lanes, as numpy arrays.
            settings: the procedure.
        """
        for turn in scheduler.turns():
            place = self._places[turn.group]
            ahead, place.ahead = place.ahead, None
            if not turn.stays:
                place.chunk = self._dispatch(place, turn, pool, settings)
            else:
                place.chunk = ahead or self._dispatch(place, turn, pool, settings, before=place.chunk)
        if self._host_is_free or scheduler.idle:
            for turn in scheduler.under_way:
                place = self._places[turn.group]
                place.ahead = place.ahead or self._dispatch(place, turn, pool, settings, before=place.chunk)

    def wait(self, turns: list[Turn]) -> tuple[Chunk, ChunkResult]:
        """Wait until a chunk of some turns under way has ended: it, and what it has measured.

        Of several that have, it is the one of the first turn. A chunk that failed raises what it failed with.
        """
        chunks = [chunk for turn in turns if (chunk := self._places[turn.group].chunk)]
        futures.wait([chunk.result for chunk in chunks], return_when=futures.FIRST_COMPLETED)
        ended = next(chunk for chunk in chunks if chunk.result.done())
        return ended, ended.result.result()

    def drop(self) -> None:
        """Forget all that is under way."""
        for place in self._places:
            place.chunk = place.ahead = None

    def _dispatch(
        self, place: _Place, turn: Turn, pool: Lanes, settings: PassSettings, before: Chunk | None = None
    ) -> Chunk:
        """Start a chunk.

        Args:
            place: where.
            turn: who sits in it, in which shape.
            pool: all lanes.
            settings: the procedure.
            before: the chunk with the same lanes that it follows; if one of them leaves its seat in that,
                this one finds its quorum lacking and does nothing.
        """
        seats: Callable[[], list[_Seats]]  # in the place's thread
        if before:
            slots, quorum = before.slots, len(turn.seated)
            seats = before.seats_after
        else:
            # Lanes are dealt out over the devices in turn, so that the last ones of a run share no device.
            devices, quorum = mesh.places(place.whole), 0
            slots_BxR = np.full((turn.bucket.lanes, devices), len(pool.problem.length), np.int32)
            slots_BxR.flat[: len(turn.seated)] = turn.seated
            slots = slots_BxR.T.reshape(-1)
            packed = Packed.of(seated_lanes(pool, slots, turn.bucket.tokens), devices)
            seats = functools.partial(self._sent, place, packed)
        started = place.thread.submit(self._run, place, turn, settings, seats, quorum)
        return Chunk(turn, slots, started, place.reader.submit(self._fetched, started))

    def _run(
        self,
        place: _Place,
        turn: Turn,
        settings: PassSettings,
        seats: Callable[[], list[_Seats]],
        quorum: int,
    ) -> _Started:
        """Start the programs of a chunk over the seats of each member."""
        before = seats()
        with self._compiling[turn.bucket]:  # what one thread compiles no other does
            chunks = [
                # The mesh without its devices: a chunk is traced once for all of them.
                lanes.run_chunk(
                    *(member.model, own.lanes, turn.bucket, settings, member.mesh.abstract_mesh),
                    Limits(turn.floor, quorum, own.active),
                )
                for member, own in zip(place.members, before, strict=True)
            ]
        after, results = [after for after, _ in chunks], [result for _, result in chunks]
        if not place.divided:
            return _Started([_Seats(after[0], np.int32(0))], results[0])
        result, total = _exchange(mesh.together(results, place.whole), place.whole)
        active = [mesh.local(total, member.mesh) for member in place.members]
        return _Started(list(map(_Seats, after, active)), result)

    @staticmethod
    def _fetched(started: Future[_Started]) -> ChunkResult:
        """What a chunk has measured, when it has ended."""
        return jax.device_get(started.result().result).unpack()

    @staticmethod
    def _sent(place: _Place, packed: Packed[Lanes]) -> list[_Seats]:
        """Each member's own seats on its devices, and the number of active ones that it need not know yet."""
        if not place.divided:
            return [_Seats(mesh.replicated(packed, member.mesh), np.int32(0)) for member in place.members]
        devices, sent = place.whole.devices.flatten().tolist(), []
        for member in place.members:
            row = devices.index(member.mesh.devices.flat[0])
            own = jax.tree.map(lambda row_RxN, row=row: row_RxN[row : row + 1], packed)
            sent.append(_Seats(*mesh.replicated((own, np.int32(0)), member.mesh)))
        return sent


def seated_lanes(pool: Lanes, slots_S: np.ndarray, length: int) -> Lanes:
    """Copies of lanes, with `length` of their tokens; one that has ended in every empty seat.

    Args:
        pool: all N lanes, as numpy arrays.
        slots_S: who sits where; N is an empty seat.
        length: of the padded pass.
    """
    vacant_S = slots_S == len(pool.problem.length)
    seats = jax.tree.map(lambda x: x[np.where(vacant_S, 0, slots_S)], pool)
    seats.progress.stop[vacant_S] = Stop.COMPLETE
    return seats._replace(problem=seats.problem._replace(tokens=seats.problem.tokens[:, :length]))
