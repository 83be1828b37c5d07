"""Standard streams that are closed, full, left by their reader or short of characters."""

import os
import subprocess
import sys

import pytest

MAIN = "import sys; from jaxcram.cli.main import main; sys.exit(main(sys.argv[1:]))"
SAY = """
import sys
from jaxcram.cli import streams

with streams.reliable():
    with streams.work_is_kept():
        print(sys.argv[1])
    print("after", file=sys.stderr)
"""
FULL = (
    "stdout cannot be written (No space left on device); free disk space or redirect it, then start the same "
    "command again"
)
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


def shell(code: str, arguments: str, redirections: str, **environ: str) -> tuple[int, str]:
    """(exit code, stdout and stderr) of a program under a shell's redirections."""
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {arguments} {redirections}', "bash", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environ,
    )
    return done.returncode, done.stdout.decode("utf-8")


@pytest.mark.parametrize("buffered", ["", "1"])
@needs_full
def test_a_full_disk_under_stdout_is_one_line(buffered):
    assert shell(MAIN, "--help", "2>&1 >/dev/full", PYTHONUNBUFFERED=buffered) == (
        75,
        f"jaxcram: error: {FULL}\n",
    )


@pytest.mark.parametrize("buffered", ["", "1"])
@needs_full
def test_a_full_disk_under_stdout_does_not_fail_saved_work(buffered):
    assert shell(SAY, "before", "2>&1 >/dev/full", PYTHONUNBUFFERED=buffered) == (
        0,
        f"the work is done and saved, but {FULL}\nafter\n",
    )


@pytest.mark.parametrize(
    ("redirections", "shown"),
    [
        (">&-", "after\n"),
        ("2>&-", "before\n"),
        (">&- 2>&- <&-", ""),
        pytest.param("2>/dev/full", "before\n", marks=needs_full),
        ("2> >(true)", "before\n"),
    ],
)
def test_a_closed_stream_is_not_an_error(redirections, shown):
    assert shell(SAY, "before", redirections) == (0, shown)


def test_output_does_not_go_into_files_that_are_opened_later(tmp_path):
    code = f"""
import sys
from jaxcram.cli import streams

with streams.reliable(), open({str(tmp_path / "rows")!r}, "w") as file:
    print("x", flush=True)
    print("error", file=sys.stderr, flush=True)
    file.write("rows")
"""
    assert shell(code, "", "<&- >&- 2>&-") == (0, "")
    assert (tmp_path / "rows").read_text() == "rows"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"\u201cO\xf9\u201d \U0001f600"),
        ("ascii:strict", r"\u201cO\xf9\u201d \U0001f600"),
        ("latin-1", r"\u201cOù\u201d \U0001f600"),
        ("utf-8", "“Où” \N{GRINNING FACE}"),
    ],
)
def test_characters_that_a_stream_cannot_encode_are_escaped(encoding, shown):
    done = subprocess.run(
        [sys.executable, "-c", SAY, "“Où” \N{GRINNING FACE}"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"after\n")
    assert done.stdout.decode(encoding.partition(":")[0]) == f"{shown}\n"


def test_a_deleted_current_directory_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    enter = ["bash", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "bash"]
    done = subprocess.run(
        [*enter, sys.executable, "-c", MAIN, "generate", "--prompt=x"],
        capture_output=True,
        text=True,
    )
    said = "the current directory no longer exists (No such file or directory); change to another one"
    assert (done.returncode, done.stderr) == (2, f"jaxcram generate: error: {said}\n")
