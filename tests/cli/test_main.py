"""`jaxcram` finds its programs, and exits with 0, 2 or 130 and one line."""

import os
import subprocess
import sys

import pytest

from jaxcram.cli import generate, main


def test_help_lists_every_program_in_a_line_of_its_own(capsys):
    assert main.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, says in main.PROGRAMS.items():
        assert f"  {name:<10}{says}" in lines
    assert main.main([]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_version(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == "jaxcram 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["cran"],
            "jaxcram: error: no program 'cran'; there are cram, decode, generate, pretrain, show. "
            "Did you mean cram?",
        ),
        (["42"], "jaxcram: error: no program '42'; there are cram, decode, generate, pretrain, show"),
        (["generate"], "jaxcram generate: error: --prompt is needed; write --prompt=VALUE"),
        (
            ["generate", "--promt=Once"],
            "jaxcram generate: error: Unknown command line flag 'promt'. Did you mean: prompt",
        ),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(capsys, arguments, line):
    assert main.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"{line}\n"


def test_an_interrupt_says_what_is_kept_and_exits_with_130(capsys, monkeypatch):
    def interrupted(command: generate.Command) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "run", interrupted)
    assert main.main(["generate", "--prompt=Once"]) == 130
    assert capsys.readouterr().err == "jaxcram generate: interrupted; nothing is kept\n"


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(buffered):
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
