"""One start of `jaxcram cram` to which something happens: what, and at which of its file operations.

The product is untouched: an audit hook of the interpreter sees every operation on files below the run's
directory, Orbax's too, and acts before the chosen one takes place. What TensorStore writes in compiled code
shows no operations; a limit on the size of files, or a kill by the clock, reaches it as well.
"""

import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def _is_below(out: Path) -> Callable[[str, tuple], bool]:
    """Whether an event is an operation on a file below `out`, by its relative or its absolute path."""
    paths = str(out), str(out.absolute())
    return lambda event, arguments: (
        event in OPERATIONS and bool(arguments) and str(arguments[0]).startswith(paths)
    )


def at_operation(out: Path, number: int, act: Callable[[], None]) -> None:
    """Calls `act` before the `number`-th file operation below `out`, counted from 1, takes place."""
    seen, lock, below = [0], threading.Lock(), _is_below(out)

    def hook(event: str, arguments: tuple) -> None:
        if not below(event, arguments):
            return
        if event == "open" and not isinstance(arguments[1], str | None):
            return
        with lock:
            seen[0] += 1
            due = seen[0] == number
        if due:
            act()

    sys.addaudithook(hook)


def count_operations(out: Path) -> Callable[[], int]:
    """How many file operations below `out` there have been."""
    seen, below = [], _is_below(out)
    sys.addaudithook(lambda event, arguments: seen.append(event) if below(event, arguments) else None)
    return lambda: len(seen)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """Waits where it is, the directory locked, until somebody kills it."""
    os.kill(os.getpid(), signal.SIGSTOP)


def limit_files(size: int) -> None:
    """Writes beyond `size` bytes of a file fail from now on, in compiled code too, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def die_of_limits() -> None:
    """The kernel ends the process within the first write beyond the limit. For the main thread."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def by_the_clock(seconds: float) -> None:
    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()


def jumping_clock(seed: int) -> None:
    """The wall clock jumps by up to a year, back and forth, whenever somebody looks at it."""
    real, jumps = time.time, random.Random(seed)
    time.time = lambda: real() + jumps.uniform(-3e7, 3e7)
