"""`jaxcram PROGRAM --flags`: finds the program, reads its flags, runs it, and turns errors into exit codes.

Exit codes: 0 done; 2 a mistake of the user, told in one line; 75 stopped from outside, as by a full disk, in
one line too; 130 interrupted (SIGINT); 143 terminated (SIGTERM); 141 whoever read the output has left; 1 a
bug, with its stack trace.
"""

import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jaxcram.cli import streams
from jaxcram.devices import environment
from jaxcram.errors import Interrupted, UserError

PROGRAMS = {
    "cram": "cram texts into input vectors of a frozen model, and decode them back",
    "decode": "the texts back from a run's embeddings",
    "generate": "continue a prompt with a model: the quick check that a port works",
    "pretrain": "train a small decoder and save it in Hugging Face layout",
    "show": "a run's table and figure again",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `jaxcram` with the arguments `argv` (None: those of the process); the exit code.

    A program is the module of its name in this package. It has `Command`, a frozen dataclass; `TOPICS`,
    which explains Command's fields as flags; `run(command)`; and, where an interrupted run can go on,
    `RESUMES`, which says how. Nothing slow is imported before the flags are right.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    with streams.reliable():
        try:
            code = _run(name, rest)
            sys.stdout.flush()
            return code
        except UserError as error:
            if _another_tells(error):
                return error.exit_code
            program = f"jaxcram {name}" if name in PROGRAMS else "jaxcram"
            return _end(f"{program}: error: {error}", error.exit_code)
        except BrokenPipeError:  # as with `| head`
            streams.discard_output()
            return 141


def _run(name: str, arguments: list[str]) -> int:
    if name in ("--help", "-h"):
        print(_overview())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"jaxcram {version('jaxcram')}")
        return 0
    if name not in PROGRAMS:
        raise UserError(f"no program {name!r}; there are {', '.join(PROGRAMS)}{_nearest(name)}")
    from jaxcram.cli import flags

    program = importlib.import_module(f"jaxcram.cli.{name}")
    if {"--help", "-h"} & set(arguments):
        usage, explained = flags.usage(program.Command), flags.explain(program.Command, program.TOPICS)
        print(f"jaxcram {name} {usage}: {PROGRAMS[name]}\n{explained}")
        return 0
    try:
        command = flags.parse(program.Command, program.TOPICS, arguments)
    except UserError as error:
        if _first_task_finds_it_too(arguments):
            return error.exit_code
        raise
    try:
        with _second_interrupt_ends(name):
            _settle(name)
            program.run(command)
    except Interrupted as interruption:
        from jaxcram.devices import processes

        if processes.number() > 0:  # process 0 tells it
            return interruption.exit_code
        how = "terminated" if interruption.exit_code == 143 else "interrupted"
        again = shlex.join(["jaxcram", name, *arguments])
        if not any(argument.split("=")[0] == "--out" for argument in arguments):
            again += f" --out={shlex.quote(str(interruption.directory))}"
        return _end(f"jaxcram {name}: {how}; go on with: {again}", interruption.exit_code)
    except KeyboardInterrupt:
        resumes = getattr(program, "RESUMES", "nothing is kept")
        return _end(f"jaxcram {name}: interrupted; {resumes}", 130)
    return 0


def _settle(name: str) -> None:
    """Sees to the environment before anything slow is imported that reads it.

    Raises:
        UserError: programs cannot work in it.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current directory is gone ({error.strerror}); cd to one that is there"
        ) from error
    if "jax" not in sys.modules and (
        removed := environment.heed_only_harmless(os.environ)
    ):  # else it is read
        print(
            f"jaxcram {name}: not heeded, for results must not depend on it: {' '.join(removed)}",
            file=sys.stderr,
        )
    environment.import_jax()


@contextmanager
def _second_interrupt_ends(name: str) -> Iterator[None]:
    """While the context is open, a second SIGINT ends the process wherever it is, even deep in a compilation.

    Nothing is half written then: files become visible when they are whole.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not ours
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        interrupts = 0
        while numbers := os.read(reading, 64):
            interrupts += numbers.count(signal.SIGINT)
            if interrupts > 1:
                os.write(2, f"\njaxcram {name}: stopped at once\n".encode())
                os._exit(130)
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _first_task_finds_it_too(arguments: Sequence[str]) -> bool:
    """Whether srun gave another task, which tells the mistake, the same flags.

    A flagfile may be missing on one node alone, and the number of the process is each one's own.
    """
    own = any("flagfile" in word or "process_id" in word for word in arguments)
    return os.environ.get("SLURM_PROCID", "0") != "0" and not own


def _another_tells(error: UserError) -> bool:
    if not error.agreed:
        return False
    from jaxcram.devices import processes

    return processes.number() > 0


def _overview() -> str:
    width = max(map(len, PROGRAMS)) + 2
    lines = ["Cramming and progressive cramming of texts into input vectors of frozen language models.", ""]
    lines += ["jaxcram PROGRAM --flags", ""]
    lines += [f"  {name:<{width}}{says}" for name, says in PROGRAMS.items()]
    lines += ["", "jaxcram PROGRAM --help explains a program's flags; jaxcram --version says the version."]
    return "\n".join(lines)


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, PROGRAMS, n=1)
    return f". Did you mean {near[0]}?" if near else ""


def _end(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
