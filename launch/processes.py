"""Runs several commands, a limited number at a time, restarts those that can resume, and reports them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

# Exit codes of `jaxcram cram` after which the same command resumes: lost process or full disk, and SIGTERM.
RESUMABLE = (75, 143)
NOT_STARTED = 2  # exit code of a job that could not be started; restarting would not help
POLL_S = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: in reports.
        argv: the command.
        log: file to which its output is appended; None leaves it on the terminal.
    """

    name: str
    argv: tuple[str, ...]
    log: Path | None = None


@dataclasses.dataclass
class _Started:
    process: subprocess.Popen[bytes]
    job: Job
    restarts: int  # restarts left
    since: float


@dataclasses.dataclass
class Outcome:
    """Exit codes by name of the jobs that have ended, and the signal that stopped the others, or 0."""

    codes: dict[str, int] = dataclasses.field(default_factory=dict)
    signal: int = 0

    @property
    def failed(self) -> dict[str, int]:
        """The jobs that failed; a negative code is minus a signal's number."""
        return {name: code for name, code in self.codes.items() if code}


def resumable(code: int) -> bool:
    """Whether restarting the same command can help; never after a user error (2) or a bug (1)."""
    return code in RESUMABLE or code < 0


def run_all(jobs: Sequence[Job], *, parallel: int, restarts: int, env: Mapping[str, str]) -> Outcome:
    """Run all jobs, `parallel` at a time, each restarted at most `restarts` times.

    Every SIGINT and SIGTERM is passed on to the running jobs; after the first, no new job is started.
    """
    outcome, waiting = Outcome(), collections.deque((job, restarts) for job in jobs)
    running: list[_Started] = []
    with _caught(signal.SIGINT, signal.SIGTERM) as caught:
        while running or waiting:
            while caught:
                outcome.signal = caught.popleft()
                waiting.clear()
                for one in running:
                    _pass_on(one, outcome.signal)
            while waiting and len(running) < parallel:
                job, left = waiting.popleft()
                try:
                    running.append(_start(job, left, env))
                except OSError as error:  # its log or the program cannot be opened
                    print(f"{job.name}: cannot be started ({error})", flush=True)
                    outcome.codes[job.name] = NOT_STARTED
            time.sleep(POLL_S)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                if resumable(one.process.returncode) and one.restarts and not (outcome.signal or caught):
                    print(f"{one.job.name}: {ended(one.process.returncode)}; starting it again", flush=True)
                    waiting.appendleft((one.job, one.restarts - 1))
                else:
                    outcome.codes[one.job.name] = one.process.returncode
                    _report(one)
    return outcome


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _start(job: Job, restarts: int, env: Mapping[str, str]) -> _Started:
    with contextlib.ExitStack() as stack:
        output = None
        if job.log is not None:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(job.log.open("ab"))
            print(f"{job.name}: started, log in {job.log}", flush=True)
        # A new session, so that Ctrl-C in the terminal reaches the job once, through this process.
        process = subprocess.Popen(
            job.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )
    return _Started(process, job, restarts, time.monotonic())


def _pass_on(one: _Started, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(one.process.pid, signum)


def _report(one: _Started) -> None:
    code, job = one.process.returncode, one.job
    if code == 0:
        print(f"{job.name}: done after {time.monotonic() - one.since:.0f} s", flush=True)
        return
    lines = job.log.read_text(errors="replace").splitlines() if job.log else []
    last = f"; its log ends: {lines[-1]}" if lines else ""
    print(f"{job.name}: {ended(code)}{last}", flush=True)


@contextlib.contextmanager
def _caught(*signums: int) -> Iterator[collections.deque[int]]:
    """A queue of the signals that arrived while the context is open, in place of their usual effect."""
    arrived: collections.deque[int] = collections.deque()

    def note(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)

    before = {signum: signal.signal(signum, note) for signum in signums}
    try:
        yield arrived
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
