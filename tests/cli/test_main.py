"""`jaxcram` finds its programs, and exits with 0, 2 or 130 and one line."""

import importlib.metadata
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import jaxcram
from jaxcram.cli import generate, main
from jaxcram.cram import summary
from jaxcram.errors import Interrupted, StoppedError


def test_help_lists_every_program_on_its_own_line(capsys):
    assert main.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, says in main.PROGRAMS.items():
        assert f"  {name:<13}{says}" in lines
    assert main.main([]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_version(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == "jaxcram 0.1.0\n"


def test_sources_on_the_path_that_are_not_installed_have_no_version(monkeypatch):
    """What is measured and written down names the version, and must not fail for want of one."""
    installed = importlib.metadata.version

    def version(name):
        if name == "jaxcram":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert jaxcram.__version__ == summary.versions()["jaxcram"] == "(sources)"
    with pytest.raises(AttributeError, match="'__versions__'"):
        _ = jaxcram.__versions__


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["cran"],
            f"jaxcram: error: unknown program 'cran'; choose one of {', '.join(main.PROGRAMS)}. "
            "Did you mean cram?",
        ),
        (
            ["42"],
            f"jaxcram: error: unknown program '42'; choose one of {', '.join(main.PROGRAMS)}",
        ),
        (["generate"], "jaxcram generate: error: --prompt is required; write --prompt=VALUE"),
        (
            ["generate", "--promt=Once"],
            "jaxcram generate: error: Unknown command line flag 'promt'. Did you mean: prompt",
        ),
        (
            ["cram", "--coordinator_address=h:99999", "--num_processes=2", "--process_id=0"],
            "jaxcram cram: error: coordinator_address h:99999: a port is from 1 to 65535",
        ),
    ],
)
def test_a_user_error_is_one_line_on_stderr_and_exit_code_2(capsys, arguments, line):
    assert main.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"{line}\n"


def test_srun_task_0_reports_common_errors_and_each_task_its_own(capsys, monkeypatch, tmp_path):
    def full(command: generate.Command) -> None:
        raise StoppedError("rows: no space; make room")

    def told(*arguments: str) -> tuple[int, str]:
        return main.main(["generate", *arguments]), capsys.readouterr().err

    monkeypatch.setattr(generate, "run", full)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert told() == (2, "")
    assert told("--prompt=Once") == (75, "jaxcram generate: error: rows: no space; make room\n")
    # This node alone may lack it.
    code, line = told(f"--flagfile={tmp_path}/no.flags")
    assert (code, line.count("\n")) == (2, 1)
    assert line.startswith(f"jaxcram generate: error: cannot read the --flagfile {tmp_path}/no.flags (")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert told() == (2, "jaxcram generate: error: --prompt is required; write --prompt=VALUE\n")


def test_an_interrupt_reports_what_is_kept_and_exits_with_130(capsys, monkeypatch):
    def interrupted(command: generate.Command) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "run", interrupted)
    assert main.main(["generate", "--prompt=Once"]) == 130
    assert capsys.readouterr().err == "jaxcram generate: interrupted; nothing was saved\n"


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_broken_pipe_is_not_an_error(buffered):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from jaxcram.cli.main import main; sys.exit(main(['show', '--help']))",
        ],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": buffered},
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("number", "arguments", "line"),
    [
        (
            signal.SIGINT,
            ["--prompt=Once upon"],
            "interrupted; resume with: jaxcram generate '--prompt=Once upon' --out='runs/a b'",
        ),
        (
            signal.SIGTERM,
            ["--prompt=Once", "--max_new_tokens=3"],
            "terminated; resume with: jaxcram generate --prompt=Once --max_new_tokens=3 --out='runs/a b'",
        ),
    ],
)
def test_a_run_stopped_by_a_signal_prints_the_command_that_resumes_it(
    capsys, monkeypatch, number, arguments, line
):
    def interrupted(command: generate.Command) -> None:
        raise Interrupted(Path("runs/a b"), number)

    monkeypatch.setattr(generate, "run", interrupted)
    assert main.main(["generate", *arguments]) == 128 + number
    assert capsys.readouterr().err == f"jaxcram generate: {line}\n"


def test_an_external_cause_is_one_line_and_exit_code_75(capsys, monkeypatch):
    def stopped(command: generate.Command) -> None:
        raise StoppedError("rows: cannot be written (No space left on device); make room")

    monkeypatch.setattr(generate, "run", stopped)
    assert main.main(["generate", "--prompt=Once"]) == 75
    assert capsys.readouterr().err == (
        "jaxcram generate: error: rows: cannot be written (No space left on device); make room\n"
    )


BUSY = """
import signal, sys, time
from jaxcram.cli import generate, main
from jaxcram.errors import Interrupted, StoppedError

def busy(command):
    try:
        print("busy", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: None)  # as deaf as compiled code
        print("tidying", flush=True)
        time.sleep(60)

generate.run = busy
sys.exit(main.main(["generate", "--prompt=Once"]))
"""


def test_a_second_interrupt_ends_code_that_ignores_signals():
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "tidying\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "\njaxcram generate: stopped at once\n"
