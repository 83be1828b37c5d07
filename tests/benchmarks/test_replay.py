"""Runs played again without a model."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from replay import Lane, Replay, lanes_of

from jaxcram.cram.autotune import DEFAULT_COST
from jaxcram.cram.scheduler import PassCost, Plan
from jaxcram.cram.settings import CramSettings
from tests.faults.model import make_model

PROGRAM = (sys.executable, str(Path(__file__).with_name("clocked.py")), "cram")
FLAGS = (
    *("--learning_rates=0.1,0.5,1.0,2.0", "--seeds=0,1,2", "--max_steps_per_token=60", "--max_steps=300"),
    "--trajectory=none",
)


@pytest.mark.parametrize(("spare", "chunks", "passes"), [(0, 4, 32), (1, 5, 35)])
def test_two_devices_work_off_chunks_in_the_order_of_their_start(spare, chunks, passes):
    """Two lanes to a pass of 16 tokens; a pass more measures that a lane has ended."""
    lanes = [Lane(1, [1] * steps, 1) for steps in (3, 20, 10, 10, 2)]
    # Lanes 0 and 1 take 4 passes, lanes 2 and 3 at the same time 11. Then lane 4 takes 3: with a spare chunk
    # it had to begin by itself, else it sits with lane 1, which takes what is left, 16 steps to a chunk.
    played = Replay(lanes, Plan.of(5, 10, 64), PassCost(32, 0.0), 2, spare, 16).play()
    assert (played["chunks"], played["passes"]) == (chunks, passes)
    measured = 4 + 21 + 11 + 11 + 3
    assert played["useful_share"] == measured / (passes * 32)
    assert played["cost"] == passes * 32 / measured


@pytest.mark.slow
def test_played_on_its_own_devices_a_run_has_its_own_passes(tmp_path, own_devices):
    """Lanes that wander through the buckets, end early and late, and leave seats empty."""
    make_model(tmp_path / "model")
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 10, 28)) for _ in range(10)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for devices, budget, cost in ((1, 48, PassCost(48)), (2, 0, DEFAULT_COST["cpu"])):
        out = tmp_path / f"run{devices}"
        own = (
            *(f"--model={tmp_path / 'model'}", f"--texts={tmp_path / 'texts.jsonl'}"),
            *(f"--out={out}", f"--token_budget={budget}"),
        )
        environment = own_devices | {"JAX_NUM_CPU_DEVICES": str(devices)}
        subprocess.run([*PROGRAM, *own, *FLAGS], check=True, env=environment, capture_output=True)
        summary = json.loads((out / "summary.json").read_text())
        lanes, longest = lanes_of(out)
        assert len(lanes) == 120
        assert sum(len(lane.of_steps) for lane in lanes) == summary["lane_steps"]
        plan = Plan.of(len(lanes), longest, 64)
        played = Replay(lanes, plan, cost, devices, 1, CramSettings.chunk_passes).play()
        own, again = ((x["passes"], x["useful_share"]) for x in (summary, played))
        assert again == own
        assert 0 < played["useful_share"] < 1
        fuller = dataclasses.replace(plan, drains=1000)
        other = Replay(lanes, fuller, PassCost(10_000, 15.0), devices, 1, CramSettings.chunk_passes).play()
        assert other["useful_share"] > played["useful_share"]
