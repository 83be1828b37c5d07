"""Starts of `jaxcram cram` in forks of this process, which has imported everything and computed nothing.

All paths are relative, as people write them: to the working directory, which the whole campaign runs in.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import orbax.checkpoint  # noqa: F401 (a start that resumes has it ready)

from jaxcram.cli.main import main
from tests.faults.model import make_model

TEXTS = ("w1 w2 w3 w4 w5 w6 w7 w8 w9 w0 w1", "w3 w1 w4 w1 w5 w9 w2 w6", "w2 w7 w1 w8 w2 w8 w1 w8 w2 w8")
FLAGS = ("--model=model", "--texts=texts.jsonl", "--learning_rates=0.1,1.0")
FLAGS += ("--max_steps_per_token=24", "--chunk_passes=4", "--log_every=3")
OFTEN = 0.002  # minutes between two checkpoints


@dataclasses.dataclass
class Ended:
    """How a start ended: its exit code, or minus the signal that ended it; and what it printed on stderr."""

    code: int
    text: str


@contextlib.contextmanager
def working_directory() -> Iterator[None]:
    """A new one, with a space and a colon in its path, and in it the model and the texts of `FLAGS`."""
    with tempfile.TemporaryDirectory() as name:
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", f"{name}/xla")
        folder = Path(name, "kills of 09:15")
        folder.mkdir()
        with contextlib.chdir(folder):
            make_model(Path("model"))
            lines = (json.dumps({"text": text}) + "\n" for text in TEXTS)
            Path("texts.jsonl").write_text("".join(lines))
            yield


def begin(out: Path, prepare: Callable[[], object], minutes: float) -> tuple[int, int]:
    """A start's process, and where its output can be read; `prepare` is called in it first."""
    reading, writing = os.pipe()  # a file would feel the limits on files
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        prepare()
        code = main(["cram", *FLAGS, f"--out={out}", f"--checkpoint_minutes={minutes}"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


def end(pid: int, output: int, status: int | None = None) -> Ended:
    """Waits for a start; `status` is that of a process that has been waited for."""
    with open(output, errors="replace") as file:
        text = file.read()
    status = os.waitpid(pid, 0)[1] if status is None else status
    return Ended(os.waitstatus_to_exitcode(status), text)


def locked(path: Path) -> bool:
    """Whether a process holds the lock of a run."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
