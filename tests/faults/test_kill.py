"""Kills lose, double and change no row; `python tests/faults/kill.py --kills=200` is the long form."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxcram.cli.main import main
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.faults.files import events, rows_of

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import sys
from pathlib import Path
from jaxcram.cli.main import main
from tests.faults import child
out, *arguments = sys.argv[1:]
child.at_operation(Path(out), 80, child.kill)
sys.exit(main([*arguments, f"--out={out}"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("spelt", ["colon"], indirect=True)
def test_a_killed_run_resumes_to_the_same_rows(spelt, tiny_model):  # noqa: F811
    Path(spelt("texts.txt")).write_text("Once upon a time")
    arguments = ["cram", f"--model={tiny_model}", f"--texts={spelt('texts.txt')}", "--learning_rates=0.1,1.0"]
    arguments += ["--max_steps_per_token=40", "--chunk_passes=4", "--checkpoint_minutes=1e-9"]
    arguments += ["--log_every=3"]
    same = {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(len(jax.devices()))}
    command = [sys.executable, "-c", KILLED, spelt("run"), *arguments]
    killed = subprocess.run(command, env=os.environ | same, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert main([*arguments, f"--out={spelt('run')}"]) == 0
    first, second = (event for event in events(Path(spelt("run"))) if event["event"] == "start")
    assert (first["resumed"], second["resumed"]) == (0, 2)
    assert main([*arguments, f"--out={spelt('whole')}"]) == 0
    assert rows_of(Path(spelt("run"))) == rows_of(Path(spelt("whole")))


@pytest.mark.slow
def test_kills_full_disks_and_damage_do_not_lose_duplicate_or_change_rows(odd_environment):
    program = Path(__file__).with_name("kill.py")
    command = [sys.executable, program, "--kills=20"]
    done = subprocess.run(command, env=odd_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    kills, starts, runs = map(int, re.search(r"(\d+) kills in (\d+) starts, (\d+) fin", done.stdout).groups())
    assert kills >= 20
    assert starts > kills
    assert runs >= 3
    assert "\nrows lost 0, doubled 0, different 0, of " in done.stdout
