"""The comparison on a tiny model: both sides do the same work, and the records say so under exact keys."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import against_torch  # noqa: E402
from common import torch_reference  # noqa: E402
from jaxcram.cram.lanes import Bucket  # noqa: E402
from jaxcram.cram.settings import CramSettings, StageSettings  # noqa: E402
from jaxcram.models import port  # noqa: E402

pytestmark = pytest.mark.slow

SETTINGS = CramSettings(
    learning_rates=(0.3,), stages=StageSettings(max_steps=60, max_steps_per_token=30), trajectory="none"
)
BOTH = ("s", "all_s", "mean_horizon", "horizons", "passes", "passes_per_s", "lane_steps")


@pytest.fixture(scope="module")
def pair(llama, tmp_path_factory):
    """A tiny Llama, saved and read by both sides."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("llama")
    port.save(llama(), directory)
    model = port.load(directory, dtype="float32")
    yield against_torch.Pair(model, torch_reference.load(directory, device="cpu", dtype=torch.float32))
    torch.set_num_threads(threads)


def test_both_sides_step_under_the_same_settings():
    reference = dataclasses.asdict(against_torch.reference_settings(SETTINGS))
    assert reference == {
        **{"learning_rate": 0.3, "min_learning_rate": 1e-3, "warmup_steps": 100, "max_steps": 60},
        **{"max_steps_per_token": 30, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.01},
    }


def test_a_pass_record(pair):
    record = against_torch.pass_record(pair, Bucket(tokens=12, lanes=3), threads=1, repeats=2, chunk_passes=2)
    keys = [
        *("measurement", "lanes", "tokens", "torch_threads"),
        *("jaxcram_s", "torch_s", "jaxcram_all_s", "torch_all_s", "ratio"),
    ]
    assert list(record) == keys
    assert (record["measurement"], record["lanes"], record["tokens"]) == ("pass", 3, 12)
    assert record["ratio"] == min(record["torch_all_s"]) / min(record["jaxcram_all_s"])
    assert len(record["torch_all_s"]) == 2


def test_run_records(pair, samples):
    command = against_torch.Command(batch=2, rounds=2, torch_threads=1)
    records = against_torch.run_records(pair, samples, SETTINGS, command)
    assert [one["scope"] for one in records] == ["to_caps", "equal"]
    keys = {
        "measurement",
        "scope",
        "samples",
        "equal_horizons",
        "horizon_differences",
        "others_share",
        "jaxcram_first_s",
        "jaxcram_compile_s",
        "jaxcram_shapes",
        "jaxcram_at_once",
    }
    keys |= {"ratio", "ratio_with_compile", "ratio_per_token", "torch_lane_passes", "torch_threads"}
    both = (*BOTH, "paid_tokens", "useful_share")
    keys |= {f"{side}_{name}" for side in ("jaxcram", "torch") for name in both}
    assert all(set(one) == keys for one in records)
    assert set(against_torch.RUN_COLUMNS) | set(against_torch.WORK_COLUMNS) <= keys
    to_caps, equal = records
    assert to_caps["ratio"] == np.median(to_caps["torch_all_s"]) / np.median(to_caps["jaxcram_all_s"])
    # Few steps, so rounding has not parted the sides: the same procedure, step for step.
    assert to_caps["jaxcram_horizons"] == to_caps["torch_horizons"]
    assert (to_caps["equal_horizons"], to_caps["horizon_differences"]) == (4, [])
    assert to_caps["jaxcram_lane_steps"] == to_caps["torch_lane_steps"] > 0
    assert equal["jaxcram_horizons"] == equal["torch_horizons"] == [n for n in to_caps["torch_horizons"] if n]


def test_only_the_scopes_asked_for_are_run(pair, samples):
    command = against_torch.Command(batch=4, scopes=("to_caps",), torch_threads=1)
    assert [one["scope"] for one in against_torch.run_records(pair, samples, SETTINGS, command)] == [
        "to_caps"
    ]


def test_differences_of_horizons_are_told(pair, samples):
    """Two runs that part: one of them may take fewer steps."""
    few = dataclasses.replace(SETTINGS, stages=StageSettings(max_steps=4, max_steps_per_token=2))
    run, reference = against_torch.passes.whole_run, against_torch.torch_reference.cram
    targets = [sample.tokens for sample in samples]
    jobs = against_torch.jobs_of(samples, SETTINGS)
    init_NxKxD = against_torch.initial_embeddings(pair.model, jobs, SETTINGS)
    theirs = reference(
        pair.torch_model, targets, init_NxKxD, against_torch.reference_settings(SETTINGS), batch_size=4
    )
    one = against_torch._comparison([run(pair.model, samples, few)] * 2, [theirs])
    differences = [a - b for a, b in zip(one["jaxcram_horizons"], theirs.horizons, strict=True)]
    assert any(differences)
    assert one["horizon_differences"] == [each for each in differences if each]
    assert one["equal_horizons"] == differences.count(0)


def test_targets_are_cut_to_the_common_horizon(samples):
    cut = against_torch.cut_to(samples, [3, 0, 8, 1])
    assert [(one.sample_id, len(one.tokens)) for one in cut] == [(0, 3), (2, 8), (3, 1)]
