"""Several real processes as one run, on CPU: the same rows as one process, one error line, lost processes."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jaxcram.api import load_reconstructions
from jaxcram.cram.fit import HOST_S
from jaxcram.results.reading import load_curves, load_rows, load_summary
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

# Sixteen lanes in passes of two a device, on four devices and on eight.
FLAGS = (
    *("--texts=stories:8", "--max_tokens=10", "--learning_rates=0.1,1.0", "--token_budget=32"),
    *("--max_steps=40", "--max_steps_per_token=20", "--chunk_passes=8", "--checkpoint_minutes=0"),
    "--log_every=3",
)
LONGER = ("--max_steps=4000", "--max_steps_per_token=2000", "--checkpoint_minutes=10")
# Output on stdout, from several threads at once, of Gloo, which runs the collectives on CPU.
GLOO = re.compile(
    r"(\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : |\d|\s)*"
)
ENDLESS = ("--max_steps=100000000", "--max_steps_per_token=100000000", "--schedule=constant")


def start(model: Path, out: Path, *flags: str, devices: int, program: str = "cram") -> subprocess.Popen:
    """`jaxcram cram`, or another program of its flags, as a process with some CPU devices."""
    return start_program(program, f"--model={model}", f"--out={out}", *FLAGS, *flags, devices=devices)


def start_program(*arguments: str, devices: int) -> subprocess.Popen:
    """`jaxcram` as a process with some CPU devices."""
    command = [sys.executable, "-c", "import sys; from jaxcram.cli.main import main; sys.exit(main())"]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
    )


def free_port() -> int:
    """A free port below the ephemeral range, so that the system gives it to no other program."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("", port))
            return port


def joined(count: int) -> list[str]:
    """The flags that so many processes share to become one run."""
    return [f"--coordinator_address=127.0.0.1:{free_port()}", f"--num_processes={count}"]


def start_all(
    model: Path, out: Path, count: int, *flags: str, of_each: list | None = None, program: str = "cram"
) -> list:
    """Starts processes of two devices each as one run; `of_each` holds one further flag per process."""
    shared = [*flags, *joined(count)]
    own = of_each or [""] * count
    return [
        start(model, out, *shared, f"--process_id={i}", *filter(None, [own[i]]), devices=2, program=program)
        for i in range(count)
    ]


def ends(started: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each, without the output of libraries."""
    found = []
    for process in started:
        try:
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
        shown = [line for line in out.splitlines() if not GLOO.fullmatch(line)]
        found.append((process.returncode, "\n".join(shown), err or ""))
    return found


def wait_for_progress(out: Path, starts: int = 1) -> None:
    """Waits until the run in `out` has completed a chunk since its last start."""
    log, last = out / "log.jsonl", '"event": "start"'
    wait_until(
        lambda: log.exists() and "progress" in (log.read_text().split(last) + [""] * starts)[starts], 300
    )


def rows(out: Path) -> list[dict[str, Any]]:
    return load_rows(out).to_pylist()


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.optimised), 4])
def test_several_processes_write_the_same_rows_as_one(count, tiny_model, tmp_path):  # noqa: F811
    """All columns are bitwise equal, including those that name the devices."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    one = start(tiny_model, alone, devices=2 * count)
    (code, _, err), first, *others = ends([one, *start_all(tiny_model, together, count)])
    assert code == 0, err
    assert (first[0], first[1].split()[:3]) == (0, ["texts", "lr", "lanes"]), first[2]
    # Only the first one shows anything.
    assert [(code, shown) for code, shown, _ in others] == [(0, "")] * (count - 1)
    assert len(rows(together)) > 16  # some lanes have more than one stage
    assert rows(together) == rows(alone)
    assert load_curves(together).equals(load_curves(alone))
    of_together, of_alone = load_summary(together), load_summary(alone)
    assert of_together["lanes"] == of_alone["lanes"]
    assert len(of_together["devices"]) == len(of_alone["devices"]) == 2 * count


def test_several_processes_reconstruct_as_one(tiny_model, tmp_path):  # noqa: F811
    alone, together = tmp_path / "alone", tmp_path / "together"
    few = ("--texts=stories:2", "--max_tokens=4", "--min_tokens=4", "--max_steps=9")
    one = start(tiny_model, alone, *few, devices=4, program="reconstruct")
    (code, shown, err), first, other = ends(
        [one, *start_all(tiny_model, together, 2, *few, program="reconstruct")]
    )
    assert (code, shown.split()[:3]) == (0, ["setup", "lr", "conv."]), err
    assert (first[0], other[:2]) == (0, (0, "")), first[2]
    found, expected = (load_reconstructions(path).rows() for path in (together, alone))
    assert found.num_rows == 12
    assert found.drop_columns(["run"]).equals(expected.drop_columns(["run"]))


def test_processes_agree_on_what_is_measured(tiny_model, tmp_path, monkeypatch):  # noqa: F811
    """With an empty cache each times its own passes; a plan of its own would have it wait for ever."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    found = ends(start_all(tiny_model, tmp_path / "run", 2, "--token_budget=auto"))
    assert [code for code, _, _ in found] == [0, 0], found
    assert len(load_summary(tmp_path / "run")["lanes"]) == 16
    (kept,) = (tmp_path / "cache").glob("pass_time_*.json")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    each = json.loads(kept.read_text())
    each["fixed_s"] += HOST_S / 8  # of a chunk of eight passes
    assert {name: plan["time"][name] for name in ("fixed_s", "token_s")} == each


def test_one_process_finishes_an_interrupted_run_of_two(tiny_model, tmp_path):  # noqa: F811
    """Bitwise equal on the same number of devices; on fewer, every row records its mesh."""
    alone, left, fewer = tmp_path / "alone", tmp_path / "left", tmp_path / "fewer"
    started = start_all(tiny_model, left, 2, *LONGER)
    wait_for_progress(left)
    started[1].send_signal(signal.SIGTERM)  # to one; all of them stop
    assert [code for code, _, _ in ends(started)] == [143, 143]
    started = start_all(tiny_model, left, 2, *LONGER)
    wait_for_progress(left, starts=2)
    for process in started:  # as Ctrl-C in a terminal does
        process.send_signal(signal.SIGINT)
    (code, _, err), second = ends(started)
    assert (code, second[0], second[2].count("jaxcram")) == (130, 130, 0)
    assert "jaxcram cram: interrupted; resume with: jaxcram cram " in err.splitlines()[-1]
    assert not (left / "summary.json").exists()
    shutil.copytree(left, fewer)
    runs = {alone: 4, left: 4, fewer: 2}
    ended = ends([start(tiny_model, out, *LONGER, devices=devices) for out, devices in runs.items()])
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    events = [json.loads(line) for line in (left / "log.jsonl").read_text().splitlines()]
    resumed = [event["resumed"] for event in events if event["event"] == "start"]
    assert [lanes > 0 for lanes in resumed] == [False, True, True]
    assert rows(left) == rows(alone)
    assert load_curves(left).equals(load_curves(alone))
    on_four, on_two = "lanes:4,fsdp:1,model:1", "lanes:2,fsdp:1,model:1"
    assert [{row["mesh"] for row in rows(out)} for out in (left, fewer)] == [{on_four}, {on_four, on_two}]
    lanes, of_alone = load_summary(fewer)["lanes"], load_summary(alone)["lanes"]
    assert [lane["sample_id"] for lane in lanes] == [lane["sample_id"] for lane in of_alone]
    assert all(lane["exact_accuracy"] in (1.0, None) for lane in lanes)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model=no/such/directory"] * 2,
            "model 'no/such/directory' is neither a directory nor a Hub name (owner/name); check its path",
        ),
        (
            ["", "--texts=no.txt"],
            "process 1: texts='no.txt': no such file or directory; check the path",
        ),
    ],
)
def test_a_user_error_in_any_process_is_reported_once(flags, message, tiny_model, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    first, second = ends(start_all(tiny_model, out, 2, of_each=flags))
    errors = [line for line in first[2].splitlines() if line.startswith("jaxcram")]
    assert len(errors) == 1
    assert errors[0].startswith(f"jaxcram cram: error: {message}")
    assert (first[0], second[0], second[2].count("jaxcram")) == (2, 2, 0)
    assert not out.exists()


def test_a_lost_process_ends_the_other_with_one_line(tiny_model, tmp_path):  # noqa: F811
    """In one run process 0 is killed; in another process 1 crashes, and is not reported as a lost process."""
    runs = [tmp_path / "first", tmp_path / "second"]
    pairs = [start_all(tiny_model, out, 2, *ENDLESS) for out in runs]
    for out in runs:
        wait_for_progress(out)
    pairs[0][0].send_signal(signal.SIGKILL)
    pairs[1][1].send_signal(signal.SIGABRT)
    died = time.monotonic()
    (_, second_left), (first_left, crashed) = [ends(pair) for pair in pairs]
    assert time.monotonic() - died < 60
    assert (crashed[0], crashed[2].count("jaxcram: error")) == (-signal.SIGABRT, 0), crashed
    for (code, _, err), line in (
        (second_left, "process 1 ends because process 0 is lost"),
        (first_left, "process 0 ends because process 1 is lost (no heartbeat for 22 s)"),
    ):
        assert (code, err.count("Traceback")) == (75, 0), err
        remedy = "what is finished was kept: start all processes again"
        assert err.splitlines()[-1] == f"jaxcram: error: {line}; {remedy}"
