"""`jaxcram PROGRAM --flags`: parses the flags, runs the program, and turns errors into exit codes.

Exit codes:
    0    success
    1    bug, with a stack trace
    2    user error, in one line
    75   stopped by an external cause such as a full disk, in one line; the same command resumes
    130  interrupted (SIGINT)
    141  broken pipe
    143  terminated (SIGTERM)
"""

import importlib
import keyword
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import jaxcram
from jaxcram.cli import streams
from jaxcram.devices import environment
from jaxcram.errors import Interrupted, UserError

PROGRAMS = {
    "analyse": "analyse the paths of embeddings, surprisal and capacity, of one or several runs",
    "cram": "cram texts into input vectors of a frozen model, and decode them back",
    "decode": "decode the texts from a run's embeddings",
    "evaluate": "cram the contexts of a task's items, and score their answers after the embeddings",
    "export": "write a run as the published trajectories are, for scripts that read those",
    "generate": "continue a prompt with a model, as a quick check that it was loaded correctly",
    "import": "read published trajectories, or an export, as a run",
    "knockout": "bar the text from its embedding at some layers, and measure what is left",
    "pretrain": "train a small decoder and save it in Hugging Face layout",
    "reconstruct": "measure what comes back from embeddings, stopped at 99% and exact, from both decoders",
    "show": "show the table and the figures of a run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `jaxcram` with the arguments `argv` (None: those of the process) and returns the exit code.

    A program is a module of this package (`import` is import_.py) with: `Command`, a frozen dataclass;
    `TOPICS`, the help texts of Command's fields as flags; `run(command)`; and, if an interrupted run can be
    resumed, `RESUMES`, which says how. Nothing slow is imported before the flags have been checked.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    with streams.reliable():
        try:
            code = _run(name, rest)
            sys.stdout.flush()
            return code
        except UserError as error:
            if _another_process_reports(error):
                return error.exit_code
            program = f"jaxcram {name}" if name in PROGRAMS else "jaxcram"
            return _end(f"{program}: error: {error}", error.exit_code)
        except BrokenPipeError:  # for example by `| head`
            streams.discard_output()
            return 141


def program_of(name: str) -> ModuleType:
    """The module of a program."""
    return importlib.import_module(f"jaxcram.cli.{name}{'_' if keyword.iskeyword(name) else ''}")


def _run(name: str, arguments: list[str]) -> int:
    if name in ("--help", "-h"):
        print(_overview())
        return 0
    if name == "--version":
        print(f"jaxcram {jaxcram.__version__}")
        return 0
    if name not in PROGRAMS:
        raise UserError(f"unknown program {name!r}; choose one of {', '.join(PROGRAMS)}{_nearest(name)}")
    from jaxcram.cli import flags

    program = program_of(name)
    if {"--help", "-h"} & set(arguments):
        usage, explained = flags.usage(program.Command), flags.explain(program.Command, program.TOPICS)
        print(f"jaxcram {name} {usage}: {PROGRAMS[name]}\n{explained}")
        return 0
    try:
        command = flags.parse(program.Command, program.TOPICS, arguments)
    except UserError as error:
        if _first_task_reports(arguments):
            return error.exit_code
        raise
    try:
        with _second_interrupt_ends(name):
            _prepare_environment(name)
            program.run(command)
    except Interrupted as interruption:
        from jaxcram.devices import processes

        if processes.number() > 0:  # process 0 reports it
            return interruption.exit_code
        how = "terminated" if interruption.exit_code == 143 else "interrupted"
        again = shlex.join(["jaxcram", name, *arguments])
        if not any(argument.split("=")[0] == "--out" for argument in arguments):
            again += f" --out={shlex.quote(str(interruption.directory))}"
        return _end(f"jaxcram {name}: {how}; resume with: {again}", interruption.exit_code)
    except KeyboardInterrupt:
        resumes = getattr(program, "RESUMES", "nothing was saved")
        return _end(f"jaxcram {name}: interrupted; {resumes}", 130)
    return 0


def _prepare_environment(name: str) -> None:
    """Removes unsafe environment variables, then imports JAX, which reads the environment.

    Raises:
        UserError: the current directory does not exist, or JAX cannot read a variable.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current directory no longer exists ({error.strerror}); change to another one"
        ) from error
    if "jax" not in sys.modules and (removed := environment.remove_unsafe_variables(os.environ)):
        print(
            f"jaxcram {name}: ignoring variables that could change results: {' '.join(removed)}",
            file=sys.stderr,
        )
    environment.import_jax()


@contextmanager
def _second_interrupt_ends(name: str) -> Iterator[None]:
    """While the context is open, a second SIGINT ends the process at once, even during a compilation.

    No file is left half-written, since files become visible only when complete.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
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


def _first_task_reports(arguments: Sequence[str]) -> bool:
    """Whether task 0 of srun reports the same error in the flags, so that this one need not.

    Not with a flagfile, which may be missing on one node only, or a process_id, which differs by task.
    """
    own = any("flagfile" in word or "process_id" in word for word in arguments)
    return os.environ.get("SLURM_PROCID", "0") != "0" and not own


def _another_process_reports(error: UserError) -> bool:
    if not error.agreed:
        return False
    from jaxcram.devices import processes

    return processes.number() > 0


def _overview() -> str:
    width = max(map(len, PROGRAMS)) + 2
    lines = ["Cramming and progressive cramming of texts into input vectors of frozen language models.", ""]
    lines += ["jaxcram PROGRAM --flags", ""]
    lines += [f"  {name:<{width}}{purpose}" for name, purpose in PROGRAMS.items()]
    lines += ["", "jaxcram PROGRAM --help lists a program's flags; jaxcram --version prints the version."]
    return "\n".join(lines)


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, PROGRAMS, n=1)
    return f". Did you mean {near[0]}?" if near else ""


def _end(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
