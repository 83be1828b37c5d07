"""What a hostile case may do: return, or be refused in one clear line; in time, and in little memory."""

import dataclasses
import os
import random
import re
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

from jaxcram.errors import UserError
from tests.hostile import valid

SECONDS = 30.0  # of a case, on a machine that others use too
CONSTANT = 96 << 20  # bytes beyond twice the input
LONGEST = 2000  # characters of a refusal
CANARY = "CANARY-WAS-RUN"
_IN_MEMORY = Path("/dev/shm")  # a run is flushed to the disk, which is slow
_FOLDERS = ("case", "a case", "09:15", "{here}/case")  # as people write them, from the working directory
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclasses.dataclass(frozen=True)
class Attack:
    """What a case does.

    Attributes:
        calls: of the product, one after another; a refusal of one does not keep the next from being made.
        names: of which a refusal has to say at least one.
        must_refuse: whether at least one call has to refuse.
    """

    calls: Sequence[Callable[[], object]]
    names: Sequence[str]
    must_refuse: bool = False


Kind = Callable[[Path, random.Random], Attack]


class _TookTooLong(BaseException):
    pass


def problems(kind: str, make: Kind, seeds: Iterator[int] | range) -> list[str]:
    """What is wrong with the cases of a kind; a case is (kind, seed), and always the same."""
    valid.prepare()
    found = []
    for seed in seeds:
        with _folder(_FOLDERS[seed % len(_FOLDERS)]) as folder:
            attack = make(folder, random.Random(f"{kind} {seed}"))
            found += [f"({kind}, {seed}): {problem}" for problem in _judge(attack, folder)]
    return found


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A new folder of this name, in a working directory of its own."""
    here = tempfile.mkdtemp(prefix="hostile-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
    try:
        with chdir(here):
            folder = Path(name.format(here=here))
            folder.mkdir()
            yield folder
    finally:
        _remove(here)


def _judge(attack: Attack, folder: Path) -> list[str]:
    size = sum(file.lstat().st_size for file in folder.rglob("*"))
    found, refusals = [], 0
    for call in attack.calls:
        before = _memory(reset=True)
        try:
            with _limited():
                call()
        except UserError as error:
            refusals += 1
            found += _faults(str(error), attack.names)
        except _TookTooLong:
            found.append(f"took more than {SECONDS} s")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            shown = f"{error!r:.300}" if not isinstance(error, RecursionError) else "RecursionError"
            found.append(f"{shown} at {where.filename}:{where.lineno}")
        taken = _memory() - before
        if taken > 2 * size + CONSTANT:
            found.append(f"took {taken >> 20} MiB for {size} bytes")
    if attack.must_refuse and not refusals:
        found.append("was not refused")
    if list(folder.rglob(CANARY)):
        found.append("ran code")
    return found


def _faults(line: str, names: Sequence[str]) -> Iterator[str]:
    if _CONTROL.search(line):
        yield f"control characters: {line!r:.300}"
    if not line or len(line) > LONGEST:
        yield f"a refusal of {len(line)} characters: {line:.300}"
    if not any(name in line for name in names):
        yield f"a refusal that names none of {names}: {line:.300}"


@contextmanager
def _limited() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _memory(reset: bool = False) -> int:
    """The most bytes that were resident since the last reset; 0 where Linux does not say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def _remove(folder: str) -> None:
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
    shutil.rmtree(folder)
