"""Walks and solutions of runs with known rows, through the registry."""

import json

import pytest

from jaxcram import api
from jaxcram.analysis import solutions, walk
from jaxcram.results.reading import load_lanes
from jaxcram.results.table import stack_embeddings
from tests.findings.made import make_run

JOBS = [(sample, rate, seed) for sample in (0, 1) for rate in (0.1, 1.0) for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("geometry") / "run", JOBS)


def test_walks_are_those_of_the_stored_embeddings(run):
    found = api.analyse(run, analyses=["trajectory", "walk"])
    lanes = json.loads(found.json())["lanes"]
    for (job, table), row in zip(load_lanes(run), lanes, strict=True):
        points = stack_embeddings(table["embedding"])
        columns = [table[name].to_numpy() for name in ("stage_seq_len", "steps", "exact")]
        assert row["walk"] == json.loads(json.dumps(walk.walk(points, *columns)["walk"]))
        assert (row["sample_id"], row["walk"]["pca99"]) == (job.sample_id, row["pca99"])
        assert row["walk"]["as_published"]["trajectory_length"] == pytest.approx(
            row["as_published"]["trajectory_length"]
        )
    assert "PCA 99% of random walks" in found.table()
    assert [found.figure(name).axes[0].get_ylabel() for name in ("walk", "pca99", "jumps")] == [
        *("PC2", "PCA 99% (components)", "lag-1 autocorrelation of jumps")
    ]


def test_solutions_are_of_rates_and_seeds(run):
    found = api.analyse(run, analyses=["solutions", "seeds"])
    document = json.loads(found.json())
    # Horizons 6 and 9: prefixes of 4, 5, 6 and of 4, 5, 6, 7, 8 tokens.
    assert document["solutions"]["groups"] == 3 * (3 + 5)
    assert document["seeds"]["prefixes"] == 2 * (3 + 5)
    assert document["seeds"]["seeds"] == {"mean": 3.0, "std": 0.0, "count": 16}
    kept = [
        one
        for job, table in load_lanes(run)
        for one in solutions.of_lane(
            job,
            stack_embeddings(table["embedding"]),
            *(table[name].to_numpy() for name in ("stage_seq_len", "exact", "information_gain_bits")),
            stack_embeddings(table["initialization_embedding"])[0],
        )
    ]
    expected = solutions.summary(solutions.groups(kept))
    assert document["solutions"] == json.loads(json.dumps(expected))
    assert "distance over displacement" in found.table()
    assert found.figure("seeds").axes[0].get_ylabel() == "PCA 99% (components)"


def test_a_run_without_trajectories_has_neither(tmp_path):
    run = make_run(tmp_path / "run", JOBS[:2], trajectory="horizon")
    document = json.loads(api.analyse(run, analyses=["walk", "solutions", "seeds"]).json())
    assert (document["walk"]["lanes"], document["solutions"]["groups"]) == (0, 0)
