"""The bundled cloze items: right by their sources, and as hard for the bundled model as intended."""

from itertools import chain, islice

import pytest

from jaxcram import api
from jaxcram.evaluate.accuracy import right
from jaxcram.evaluate.choices import encode_items
from jaxcram.evaluate.multiple_choice import score
from jaxcram.evaluate.packing import pack
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.models import port
from jaxcram.text.sources import each_text
from jaxcram.text.stories import HELD_OUT_SEED, stories
from jaxcram.text.tokenizer import load_tokenizer

ITEMS = load_items(find_task("cloze"))
STORIES = [item for item in ITEMS if item.subject == "story"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(port.bundled_model())


def test_there_are_enough_of_both_kinds_and_no_two_alike():
    assert len(STORIES) == 320
    assert {item.subject for item in ITEMS[320:]} == {"prose"}
    assert len(ITEMS) == 368
    assert all(len(set(item.endings)) == 4 for item in ITEMS)
    assert len({(item.context, item.endings) for item in ITEMS}) == len(ITEMS)
    assert [item.id for item in ITEMS] == list(range(len(ITEMS)))


def test_the_right_ending_stands_nowhere_in_particular():
    for label in range(4):
        assert 60 <= sum(item.label == label for item in STORIES) <= 100


def test_the_right_ending_follows_the_context_and_the_wrong_ones_nowhere():
    """In the passages, and in the first stories, where the items of low ids are from."""
    prose = list(each_text("passages"))
    told = list(islice(stories(HELD_OUT_SEED, 1006), 6, None))
    for item in chain(STORIES[:20], ITEMS[320:]):
        texts = told if item.subject == "story" else prose
        follows = [any(f"{item.context} {ending}" in text for text in texts) for ending in item.endings]
        assert follows == [index == item.label for index in range(4)], item
        assert all(any(ending in text for text in texts) for ending in item.endings)


def test_the_contexts_of_stories_are_short(tokenizer):
    lengths = [len(tokenizer.encode(item.context)) for item in STORIES]
    assert (min(lengths), max(lengths)) == (8, 16)


def test_most_of_what_is_computed_is_scored(tokenizer):
    items = encode_items(STORIES[:128], tokenizer, max_positions=512)
    lengths = [len(text) for item in items for text in item.texts]
    batches = list(pack(lengths, [text.tobytes() for item in items for text in item.texts]))
    assert sum(lengths) / sum(batch.rows * batch.length for batch in batches) >= 0.8


@pytest.mark.slow
def test_the_bundled_model_is_right_on_three_fifths_of_the_stories():
    model = api.load_model(dtype="float32")
    scores = score(model.decoder, encode_items(ITEMS, model.tokenizer, max_positions=512), names=["base"])
    # Three of every five, by the choice of items.
    assert right(scores[:320], "token").tolist() == [True, False, True, False, True] * 64
