"""A pretraining that is terminated and killed ends with the model of one that was not."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.tiny import TINY
from tests.waiting import wait_until

PROGRAM = "import sys; from jaxcram.cli.main import main; sys.exit(main())"


def command(out: str) -> list[str]:
    # So many steps that none ends before its signal comes.
    settings = dataclasses.replace(
        TINY, sources="stories", stream_tokens=4_000, steps=2_000, checkpoint_every=500, log_every=50, out=out
    )
    flags = [f"--{name}={value}" for name, value in dataclasses.asdict(settings).items()]
    return [sys.executable, "-c", PROGRAM, "pretrain", *flags]


def signalled(out: Path, checkpoint: int, number: signal.Signals) -> tuple[int, str]:
    """Exit code and last line of a start that gets a signal once it has made a checkpoint."""
    program = subprocess.Popen(command(out.name), cwd=out.parent, stderr=subprocess.PIPE, text=True)
    saved = out / "checkpoints" / "state" / str(checkpoint)
    wait_until(lambda: saved.exists() or program.poll() is not None, seconds=300)
    assert program.poll() is None
    program.send_signal(number)
    told = program.communicate()[1]
    return program.returncode, told.splitlines()[-1]


@pytest.mark.slow
def test_whatever_ends_it_the_same_command_goes_on_to_the_same_model(tmp_path: Path) -> None:
    """With a relative path."""
    subprocess.run(command("whole"), cwd=tmp_path, check=True, capture_output=True)
    code, line = signalled(tmp_path / "broken", 1, signal.SIGTERM)
    assert code == 143
    assert line.startswith("jaxcram pretrain: terminated; resume with: jaxcram pretrain --out=broken ")
    code, line = signalled(tmp_path / "broken", 3, signal.SIGKILL)
    assert code == -signal.SIGKILL
    subprocess.run(command("broken"), cwd=tmp_path, check=True, capture_output=True)
    for file in ("model.safetensors", "config.json", "tokens/0-train.bin"):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not (tmp_path / "broken" / "checkpoints").exists()
