"""The small form of the fault test; `python tests/faults/kill.py --kills=200` is the long one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_kills_full_disks_and_damage_lose_double_or_change_no_row(odd_environment):
    program = Path(__file__).with_name("kill.py")
    command = [sys.executable, program, "--kills=20"]
    done = subprocess.run(command, env=odd_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    kills, starts, runs = map(int, re.search(r"(\d+) kills in (\d+) starts, (\d+) fin", done.stdout).groups())
    assert kills >= 20
    assert starts > kills
    assert runs >= 3
    assert int(re.search(r"from a checkpoint (\d+)", done.stdout)[1]) >= 1
    assert "\nrows lost 0, doubled 0, different 0, of " in done.stdout
