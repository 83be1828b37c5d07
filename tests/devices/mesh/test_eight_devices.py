"""What lanes and weights exchange when they are spread over devices, and that the results stay the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("eight_devices.py")

pytestmark = pytest.mark.optimised


def measure(*programs_on: str) -> dict[str, Any]:
    """What the program finds: the programs on some meshes, or, if none is given, all that it looks at."""
    command = [sys.executable, PROGRAM, *programs_on]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return measure()


def test_no_collective_inside_the_loop_over_lanes():
    found = measure("lanes:8")["collectives"]["lanes:8"]
    assert found["inside"] == {}
    # They do outside of it, where the results are made whole: the search would find what there is.
    assert found["outside"] == {"all-gather": 2}  # all numbers that a chunk reports, those of a dtype at once


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["lanes:8", "lanes:2,model:4", "lanes:4,fsdp:2"])
def test_donated_lanes_are_updated_in_place_on_every_mesh(measured, shape):
    memory = measured["collectives"][shape]["memory"]
    assert memory["reused"] == memory["seats"] > 0


@pytest.mark.slow
def test_a_tensor_parallel_model_has_all_reduces_and_moves_no_weights(measured):
    inside = measured["collectives"]["lanes:2,model:4"]["inside"]
    assert inside.keys() == {"all-reduce"}
    assert inside["all-reduce"] >= 4  # two on the way forward, two on the way back


@pytest.mark.slow
def test_fsdp_gathers_the_weights_in_every_layer(measured):
    inside = measured["collectives"]["lanes:4,fsdp:2"]["inside"]
    assert inside["all-gather"] >= 2 * 9  # weights of a layer, on the way forward and back
    assert inside.get("all-reduce", 0) <= 2  # how many lanes are still active; no activations


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "neox", "gemma"])
@pytest.mark.parametrize("shape", ["lanes:1,model:2", "lanes:1,model:4"])
def test_a_sharded_model_gives_the_same_results(measured, family, shape):
    logits = measured["logits"]
    assert logits[f"{family} spread"] > 0.1
    assert logits[f"{family} {shape}"] < 1e-4


@pytest.mark.slow
def test_a_lane_has_the_same_bits_on_one_device_on_two_and_on_four(measured):
    """Each of them takes lanes by itself: XLA rounds some quotients otherwise in a program for several."""
    alone, *others = measured["rows"].values()
    assert len(alone) == 8
    assert len(set(alone.values())) == 8
    assert all(other == alone for other in others)


@pytest.mark.slow
def test_the_bundled_model_reaches_the_same_horizons_when_sharded(measured):
    alone, *others = measured["horizons"].values()
    assert max(len(prefixes) for prefixes in alone.values()) >= 3
    assert all(other == alone for other in others)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "devices", "sizes"),
    [
        ("lanes:8", [0] * 8, [1, 1, 1]),  # the devices of a CPU are the same cores
        ("lanes:2,model:4", list(range(8)), [1, 1, 4]),
        ("lanes:4,fsdp:2", list(range(8)), [1, 2, 1]),
    ],
)
def test_device_groups_reuse_the_weights_of_their_devices(measured, text, devices, sizes):
    parts = measured["apart"][text]
    assert [device for part in parts for device in part["devices"]] == devices
    assert [part["mesh"] for part in parts] == [sizes] * len(parts)
    assert not any(part["copied"] for part in parts)


@pytest.mark.slow
def test_a_program_is_compiled_once_for_all_groups_on_cpu(measured):
    alone, *others = measured["programs"].values()
    assert alone >= 1
    assert others == [alone] * 2


@pytest.mark.slow
def test_groups_on_one_cpu_device_run_concurrently(measured):
    """XLA runs what one thread starts on a CPU device in turn; each place has a thread of its own."""
    assert measured["overtakes"]
