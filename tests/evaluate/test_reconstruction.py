"""Embeddings on their targets: exact values by hand, and against plain NumPy."""

import numpy as np
import pytest

from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.errors import UserError
from jaxcram.evaluate.reconstruction import (
    Reconstruction,
    after_first_miss,
    first_miss,
    lanes_within,
    measure,
    mismatch_rates,
    summarise,
)
from jaxcram.evaluate.settings import RECONSTRUCT, setups
from jaxcram.results.reconstruction import COLUMNS, RECONSTRUCTION
from tests import plain
from tests.cram.conftest import tiny  # noqa: F401

LENGTHS = (5, 9, 7)


def right(word):
    return np.array([letter == "." for letter in word])


@pytest.mark.parametrize(
    ("word", "first", "after"),
    [("....", None, None), ("x...", 0, 1.0), (".x.x", 1, 0.5), ("...x", 3, None), ("xxxx", 0, 0.0)],
)
def test_the_first_miss_and_what_comes_after_it(word, first, after):
    assert first_miss(right(word)) == first
    assert after_first_miss(right(word)) == after


def test_mismatch_rates_are_over_the_lanes_that_have_the_position():
    assert mismatch_rates([right("x.x"), right("xx"), right("...x")]) == [2 / 3, 1 / 3, 1 / 2, 1.0]
    assert mismatch_rates([]) == []


def test_lanes_within_a_number_of_wrong_tokens():
    assert lanes_within([0, 1, 1, 4]) == [1, 3, 3, 3, 4]
    assert lanes_within([0]) == [1, 1, 1]
    assert lanes_within([]) == [0, 0, 0]


@pytest.fixture(scope="module")
def measured(tiny):  # noqa: F811
    rng = np.random.default_rng(0)
    mem = rng.normal(0, 1, (len(LENGTHS), 2, tiny.config.width)).astype(np.float32)
    targets = [greedy(tiny, own, n) for own, n in zip(mem, LENGTHS, strict=True)]
    targets[0][3] = (targets[0][3] + 1) % tiny.config.vocab_size  # decoding goes astray after token 3
    targets[1][:] = rng.integers(0, tiny.config.vocab_size, LENGTHS[1])
    return mem, targets, measure(tiny, mem, targets, [(8, 2), (12, 1), (8, 2)])


def greedy(model, mem_KxD, length):
    """Greedy tokens by NumPy, one at a time."""
    tokens = []
    for _ in range(length):
        logits, _ = plain.run(model, mem_KxD, np.array(tokens, int))
        tokens.append(int(logits[-1].argmax()))
    return np.array(tokens, np.int32)


def test_tokens_and_margins_are_those_of_plain_numpy(tiny, measured):  # noqa: F811
    mem, targets, found = measured
    for own, target, one in zip(mem, targets, found, strict=True):
        logits = plain.run(tiny, own, target)[0][len(own) - 1 : -1]
        np.testing.assert_array_equal(one.tokens["tf"], logits.argmax(-1))
        for decoder in ("exact", "cached"):
            np.testing.assert_array_equal(one.tokens[decoder], greedy(tiny, own, len(target)))
        true = logits[np.arange(len(target)), target]
        others = np.where(np.arange(logits.shape[1]) == target[:, None], -np.inf, logits).max(-1)
        np.testing.assert_allclose(one.margins_T, true - others, atol=1e-4, rtol=0)
    # The cases differ: one wrong token that decoding cannot mend, nearly nothing right, all right.
    assert first_miss(found[0].right("tf")) == first_miss(found[0].right("exact")) == 3
    assert not found[1].right("tf").all()
    assert found[2].right("cached").all()


def test_the_columns_of_a_lane():
    target = np.array([5, 6, 7, 8], np.int32)
    tokens = {
        "tf": np.array([5, 0, 7, 8], np.int32),
        "exact": np.array([5, 0, 0, 8], np.int32),
        "cached": np.array([5, 6, 7, 0], np.int32),
    }
    margins = np.array([0.5, -1.0, 2.0, 3.0], np.float32)
    one = Reconstruction(target, tokens, margins)
    row = one.columns()
    assert row.keys() <= COLUMNS.keys()
    found = {name: value for name, value in row.items() if not isinstance(value, np.ndarray)}
    assert found == {
        **{"tf_accuracy": 0.75, "tf_wrong": 1, "tf_first_miss": 1, "tf_after_first_miss": 1.0},
        **{"exact_accuracy": 0.5, "exact_wrong": 2, "exact_first_miss": 1, "exact_after_first_miss": 0.5},
        **{"cached_accuracy": 0.75, "cached_wrong": 1, "cached_first_miss": 3},
        **{"cached_after_first_miss": None, "least_margin": 0.5},
    }
    without = one.columns(with_after=False)
    assert [name for name in found if without[name] != row[name]] == [
        "tf_after_first_miss",
        "exact_after_first_miss",
    ]
    assert (
        Reconstruction(target, tokens | {"tf": tokens["tf"] * 0}, margins).columns()["least_margin"] is None
    )


def lane(sample_id, wrong, rate=0.1, **changes):
    """A row of a lane of four tokens with wrong ones at some positions, by decoder."""
    target = np.arange(1, 5, dtype=np.int32)
    tokens = {name: np.where(np.isin(np.arange(4), at), 0, target) for name, at in wrong.items()}
    names = {"sample_id": sample_id, "learning_rate": rate, "seed": 0, "setup": "full", "run": "a"}
    counts = {"tokens": 4, "converged": not wrong["tf"], "steps_taken": 10 * sample_id, "lane_index": 0}
    counts |= {"num_compression_tokens": 1, "num_input_tokens": 4, "enough_tokens": 4}
    one = Reconstruction(target, tokens, np.array([0.5, 1.0, 2.0, 0.25], np.float32))
    return names | counts | {"model_checkpoint": "m"} | one.columns() | changes


def test_what_the_lanes_of_a_setup_come_to():
    rows = [
        lane(1, {"tf": [], "exact": [], "cached": [3]}),
        lane(2, {"tf": [1], "exact": [1, 2, 3], "cached": [0, 1, 2, 3]}),
        lane(3, {"tf": [], "exact": [], "cached": []}, rate=0.5),
    ]
    nothing = {name: None for name in rows[0] if name not in names_of_all(rows[0])}
    rows.append({**rows[0], **nothing, "sample_id": 4, "tokens": 0, "converged": False})
    table = RECONSTRUCTION.table(rows)
    for stored in (rows, table.to_pylist()):
        slow, fast = summarise(stored)
        assert (slow["setup"], slow["run"], slow["learning_rate"]) == ("full", "a", 0.1)
        assert (slow["lanes"], slow["converged"], slow["empty"]) == (3, 1, 1)
        assert (slow["tokens"], slow["steps"], slow["least_margin"]) == (8 / 3, 40 / 3, 0.25)
        exact = slow["decoders"]["exact"]
        assert exact == {
            "accuracy": 0.625,
            "interval": [0.25, 1.0],
            "std": pytest.approx(0.75 / 2**0.5),
            "after_first_miss": 0.0,
            "after_lanes": 1,
            "mismatch": [0.0, 0.5, 0.5, 0.5],
            "within": [1, 1, 1, 2],
        }
        assert slow["decoders"]["tf"]["after_first_miss"] == 1.0
        assert slow["decoders"]["cached"]["mismatch"] == [0.5, 0.5, 0.5, 1.0]
        assert fast["decoders"]["tf"]["accuracy"] == 1.0
        assert fast["decoders"]["tf"]["std"] is None


def names_of_all(row):
    return [
        name for name in row if not name.startswith(("tf_", "exact_", "cached_", "margin", "least", "target"))
    ]


def test_a_setup_without_any_text_has_no_accuracy():
    row = {**lane(0, {"tf": [], "exact": [], "cached": []}), "tokens": 0}
    (found,) = summarise([row])
    assert (found["empty"], found["least_margin"]) == (1, None)
    assert found["decoders"]["tf"] == {
        **{"accuracy": None, "interval": [None, None], "std": None, "after_first_miss": None},
        **{"after_lanes": 0, "mismatch": [], "within": [0, 0, 0]},
    }


def test_the_three_ways_differ_in_their_stages_only():
    ways = setups(RECONSTRUCT)
    assert {name: (way.stages.mode, way.stages.full_threshold) for name, way in ways.items()} == {
        "full_0.99": ("full", 0.99),
        "full": ("full", 1.0),
        "progressive": ("progressive", 1.0),
    }
    assert {(way.learning_rates, way.stages.max_steps) for way in ways.values()} == {((0.1,), 10_000)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            CramSettings(stages=StageSettings(mode="full")),
            "full_threshold 1.0: full cramming would be done twice; choose one below 1, such as 0.99",
        ),
        (
            CramSettings(stages=StageSettings(mode="full", full_threshold=0.9), trajectory="none"),
            "trajectory none: the embeddings are what is measured; choose horizon or all",
        ),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError) as error:
        setups(settings)
    assert str(error.value) == message
