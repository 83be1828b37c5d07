"""Walks and solutions of runs with known rows, through the registry."""

import json
import re

import pytest

from jaxcram import api
from jaxcram.analysis import interval, solutions, walk
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
    summary, rows = found.document()["walk"], found.rows["walk"]
    texts = [row["sample_id"] for row in rows]
    below = [row["walk"]["pca99"] < row["walk"]["random_walk_5"] for row in rows]
    assert summary["below_random_walk_interval"] == interval.of_mean(below, texts)
    less = [row["walk"]["pca99"] - row["walk"]["random_walk_pca99"] for row in rows]
    assert summary["pca99_minus_random_walk"]["interval"] == interval.of_mean(less, texts)
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
    rows = found.rows["seeds"]
    for name in ("set", "matched"):
        more = [row[f"{name}_pca99"] - row["trajectory_pca99"] for row in rows]
        expected = interval.spread(more, [row["sample_id"] for row in rows])
        assert document["seeds"][f"{name}_minus_trajectory"] == expected
        assert expected["interval"] is not None
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
    rates, seeds = (solutions.summary(solutions.groups(kept, name)) for name in ("learning_rate", "seed"))
    assert document["solutions"] == json.loads(json.dumps({**rates, "across_seeds": seeds}))
    assert (seeds["groups"], seeds["texts"]) == (2 * (3 + 5), 2)
    lines = dict(re.findall(r"^  (\S.*?)  +(.*)$", found.table(), re.MULTILINE))
    assert lines["distance over displacement"].startswith(f"{rates['distance']['median']:.2f} [")
    assert lines["distance over displacement, across seeds"].startswith(
        f"{seeds['distance']['median']:.2f} ["
    )
    legend = found.figure("solutions").legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["tiny", "tiny, across seeds"]
    assert found.figure("seeds").axes[0].get_ylabel() == "PCA 99% (components)"


def test_a_run_of_one_rate_has_solutions_across_its_seeds_alone(tmp_path):
    one = make_run(tmp_path / "run", [(0, 0.1, seed) for seed in range(2)])
    two = make_run(tmp_path / "two", [(0, rate, 0) for rate in (0.1, 1.0)])
    found = api.analyse(two, one, analyses=["solutions"])
    rows = [(row["across"], row["lanes"], row["tokens"]) for row in found.rows["solutions"]]
    assert rows == [(name, 2, tokens) for name in ("learning_rate", "seed") for tokens in (4, 5, 6)]
    cells = [line.split() for line in found.table().splitlines() if line.startswith("  prefixes of texts")]
    assert [line[3:] for line in cells] == [
        ["3", "of", "1", "0", "of", "0"],
        ["at", "all", "rates", "3", "of", "1", "0", "of", "0"],
        ["across", "seeds", "-", "3", "of", "1"],
    ]
    legend = found.figure("solutions").legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["tiny, two", "tiny, run, across seeds"]


def test_a_run_without_trajectories_has_neither(tmp_path):
    run = make_run(tmp_path / "run", JOBS[:2], trajectory="horizon")
    document = json.loads(api.analyse(run, analyses=["walk", "solutions", "seeds"]).json())
    assert (document["walk"]["lanes"], document["solutions"]["groups"]) == (0, 0)
