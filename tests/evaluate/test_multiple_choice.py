"""The eight scores against transformers, and what must not change them: order, batch, other items."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jaxcram.errors import UserError
from jaxcram.evaluate import packing
from jaxcram.evaluate.choices import Choices, encode_items
from jaxcram.evaluate.multiple_choice import BASE_SCORES, SCORES, score
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.models import port
from jaxcram.text.tokenizer import load_tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 1e-4


def load_maker():
    spec = importlib.util.spec_from_file_location(
        "make_multiple_choice", FIXTURES / "make_multiple_choice.py"
    )
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker


MAKER = load_maker()
MEM = MAKER.memories()


@pytest.fixture(scope="module")
def model():
    return port.load(MAKER.MODEL, dtype="float32")


def question(number, context, endings, label=0):
    return Choices(
        id=number,
        label=label,
        context=np.asarray(context, np.int32),
        texts=tuple(np.asarray(context + ending, np.int32) for ending in endings),
        num_context=(len(context),) * len(endings),
        text_characters=tuple(2 * len(context + ending) for ending in endings),
        ending_characters=tuple(2 * len(ending) for ending in endings),
    )


CHOICES = [question(i, context, endings) for i, (context, endings) in enumerate(MAKER.questions())]


def assert_scores(scores, recorded):
    assert [(row.item, row.name) for row in scores] == [(row["item"], row["name"]) for row in recorded]
    for row, expected in zip(scores, recorded, strict=True):
        assert row.tokens == tuple(expected["tokens"])
        np.testing.assert_allclose(row.log_probs, expected["log_probs"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("knocked", [False, True])
def test_scores_are_those_of_transformers(model, knocked):
    recorded = [row for row in json.loads(MAKER.RECORDED.read_text()) if row["knockout"] == knocked]
    conditions = MAKER.KNOCKOUT if knocked else np.zeros((len(CHOICES), 2), bool)
    scores = np.reshape(score(model, CHOICES, MEM, knockout_CxL=conditions), (len(CHOICES), len(CHOICES), -1))
    assert_scores(scores[range(len(CHOICES)), range(len(CHOICES))].reshape(-1), recorded)


@pytest.mark.slow
def test_the_recorded_scores_are_what_torch_computes():
    pytest.importorskip("torch")
    for row, recorded in zip(MAKER.record(), json.loads(MAKER.RECORDED.read_text()), strict=True):
        np.testing.assert_allclose(row.pop("log_probs"), recorded.pop("log_probs"), atol=TOLERANCE, rtol=0)
        assert row == recorded


def test_the_order_of_items_changes_no_bit_and_the_size_of_batches_no_decision(model):
    scores = score(model, CHOICES, MEM)
    order = [3, 0, 4, 2, 1]
    moved = score(model, [CHOICES[i] for i in order], MEM[order])
    assert sorted(moved, key=lambda row: row.item) == scores
    for batch_tokens in (32, 4096):
        for row, other in zip(scores, score(model, CHOICES, MEM, batch_tokens=batch_tokens), strict=True):
            np.testing.assert_allclose(row.log_probs, other.log_probs, atol=1e-5, rtol=0)
            assert np.argmax(row.log_probs) == np.argmax(other.log_probs)


def test_conditions_do_not_change_each_other(model):
    conditions = np.array([[False, False], [True, False], [True, True]])
    sweep = score(model, CHOICES, MEM, names=["memory_ending", "base"], knockout_CxL=conditions)
    assert [row.item for row in sweep] == [item.id for item in CHOICES for _ in range(2)] * 3
    assert sweep[0:10:2] == sweep[10:20:2], "base"
    assert sweep[1:10:2] != sweep[11:20:2]
    for number, condition in enumerate(conditions):
        alone = score(model, CHOICES, MEM, names=["memory_ending", "base"], knockout_CxL=condition[None])
        for row, other in zip(sweep[10 * number : 10 * number + 10], alone, strict=True):
            assert (row.item, row.name) == (other.item, other.name)
            np.testing.assert_allclose(row.log_probs, other.log_probs, atol=1e-5, rtol=0)
    # No layer knocked out is the crammed score, all layers the base score.
    crammed = score(model, CHOICES, MEM, names=["memory_ending"])
    base = score(model, CHOICES, names=["base_ending"])
    for row, other in zip(sweep[1:10:2] + sweep[21:30:2], crammed + base, strict=True):
        np.testing.assert_allclose(row.log_probs, other.log_probs, atol=TOLERANCE, rtol=0)


def test_only_what_is_asked_for_is_computed(model):
    assert [row.name for row in score(model, CHOICES[:1])] == list(BASE_SCORES)
    assert [row.name for row in score(model, CHOICES[:1], MEM[:1])] == list(SCORES)
    names = ["instead_edge", "base"]
    assert [row.name for row in score(model, CHOICES[:1], MEM[:1], names=names)] == ["base", "instead_edge"]
    with pytest.raises(ValueError, match="no score 'memory'; there can be base, base_ending"):
        score(model, CHOICES[:1], names=["memory"])


def test_characters_are_those_of_what_is_scored(model):
    rows = {row.name: row for row in score(model, CHOICES[:1], MEM[:1])}
    whole = {name for name, row in rows.items() if row.characters == CHOICES[0].text_characters}
    assert whole == {"base", "memory", "memory_edge"}
    assert all(rows[name].characters == CHOICES[0].ending_characters for name in set(SCORES) - whole)


def test_a_log_probability_that_is_not_finite_is_refused(model):
    with pytest.raises(UserError, match="item 0: a log-probability of memory is not finite; the model is "):
        score(model, CHOICES[:1], np.full_like(MEM[:1], np.nan), names=["memory"])


# Packing


def lengths_of(seed, number):
    """Lengths as benchmarks have them: a long tail."""
    return np.random.default_rng(seed).gamma(6, 9, number).astype(int).clip(2, 300).tolist()


@pytest.mark.parametrize("places", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 7, 100, 512])
def test_no_text_is_lost_or_doubled(number, places):
    lengths = lengths_of(number, number)
    batches = list(packing.pack(lengths, [b""] * number, places=places))
    assert sorted(i for batch in batches for i in batch.members) == list(range(number))
    assert all(batch.rows % places == 0 for batch in batches)
    assert all(len(batch.members) <= batch.rows for batch in batches)
    assert all(lengths[i] <= batch.length for batch in batches for i in batch.members)


@pytest.mark.parametrize("number", [100, 512, 2048])
@pytest.mark.parametrize("batch_tokens", [512, 1024, 4096])
def test_four_fifths_of_the_tokens_are_real_and_the_shapes_few(number, batch_tokens):
    lengths = lengths_of(0, number)
    batches = list(packing.pack(lengths, [b""] * number, batch_tokens=batch_tokens))
    assert sum(lengths) / sum(batch.rows * batch.length for batch in batches) >= 0.8
    assert len({(batch.rows, batch.length) for batch in batches}) <= 20
    assert all(batch.rows * batch.length <= batch_tokens for batch in batches)


@pytest.mark.parametrize(("number", "conditions"), [(64, 1), (64, 10), (368, 1)])
def test_four_fifths_of_the_tokens_that_bundled_items_score_are_real(number, conditions):
    """Contexts of few tokens, with 4 endings each; what a score reads, or what a group of a sweep does."""
    tokenizer = load_tokenizer(port.bundled_model())
    items = load_items(find_task("cloze"), limit=number)
    lengths = [len(text) for item in encode_items(items, tokenizer, max_positions=512) for text in item.texts]
    batches = list(packing.pack(lengths * conditions, [b""] * len(lengths) * conditions))
    share = sum(lengths) * conditions / sum(batch.rows * batch.length for batch in batches)
    assert share >= 0.85
