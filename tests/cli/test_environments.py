"""A run is the same run in whatever environment, and with whichever streams, its process is started."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxcram.results import load_rows

pytestmark = pytest.mark.slow

# Not all of it is ASCII.
TEXT = "Où est le café?"
START = "import sys; from jaxcram.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def arguments(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    texts = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    texts.write_text(json.dumps({"text": TEXT}))
    flags = (f"--model={tiny_model}", f"--texts={texts}", "--learning_rates=0.1,1.0", "--max_tokens=12")
    return ["cram", *flags, "--max_steps=200", "--max_steps_per_token=50"]


def start(arguments: list[str], out: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", START, *arguments, f"--out={out}"], **options)


@pytest.fixture(scope="module")
def rows(arguments, tmp_path_factory):
    """Those of a run in a tidy environment."""
    out = tmp_path_factory.mktemp("tidy") / "run"
    start(arguments, out, check=True, capture_output=True)
    return load_rows(out)


def test_an_odd_environment_changes_no_bit(arguments, rows, odd_environment, tmp_path):
    done = start(arguments, tmp_path / "run", env=odd_environment, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert b"Traceback" not in done.stderr
    table = done.stdout.decode("ascii").splitlines()
    assert table[0].split()[:3] == ["texts", "lr", "lanes"]
    assert load_rows(tmp_path / "run").equals(rows)
    assert (tmp_path / "run" / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=["stdin", "stdout", "stderr", "all"])
def test_closed_streams_change_no_bit(arguments, rows, tmp_path, closed):
    close = " ".join(f"{number}>&-" for number in closed)
    command = ["bash", "-c", f'exec "$@" {close}', "bash", sys.executable, "-c", START, *arguments]
    done = subprocess.run([*command, f"--out={tmp_path / 'run'}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr[-3000:]
    assert load_rows(tmp_path / "run").equals(rows)
