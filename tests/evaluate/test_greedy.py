"""Greedy continuations: against transformers, and what must not change them: order, batch, other texts."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jaxcram import decode
from jaxcram.errors import UserError
from jaxcram.evaluate.greedy import generated, until_end
from jaxcram.models import port
from jaxcram.models.llama import LlamaConfig
from tests import plain
from tests.lively import TINY, lively

FIXTURES = Path(__file__).parents[1] / "fixtures"


def load_maker():
    spec = importlib.util.spec_from_file_location("make_generative", FIXTURES / "make_generative.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker


MAKER = load_maker()
TEXTS, MEM = MAKER.texts(), MAKER.memories()
NOT_EMPTY = [i for i, text in enumerate(TEXTS) if len(text)]


def recorded(name, memory):
    rows = json.loads(MAKER.RECORDED.read_text())
    return [row["tokens"] for row in rows if (row["model"], row["memory"]) == (name, memory)]


FIRST, *OTHERS = [(name, memory) for name in MAKER.MODELS for memory in (True, False)]


@pytest.mark.parametrize(
    ("name", "memory"), [FIRST, *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS)]
)
def test_continuations_are_those_of_transformers(name, memory):
    """Texts of all lengths share passes; some families have windows that the texts outgrow."""
    model = port.load(MAKER.MODEL_DIRECTORY / name, dtype="float32")
    texts, mem = (TEXTS, MEM) if memory else ([TEXTS[i] for i in NOT_EMPTY], None)
    found = generated(model, texts, MAKER.NEW, mem)
    assert [new.tolist() for new in found] == recorded(name, memory)


@pytest.mark.slow
def test_the_recorded_continuations_are_what_torch_computes():
    pytest.importorskip("torch")
    assert MAKER.record() == json.loads(MAKER.RECORDED.read_text())


@pytest.fixture(scope="module")
def model():
    return lively(LlamaConfig(**TINY))


def test_neither_order_nor_batch_nor_other_texts_change_a_continuation(model):
    found = generated(model, TEXTS, 6, MEM)
    assert len({tuple(new.tolist()) for new in found}) == len(TEXTS), "or the test says nothing"
    order = [3, 0, 7, 4, 2, 1, 6, 5]
    moved = generated(model, [TEXTS[i] for i in order], 6, MEM[order])
    np.testing.assert_array_equal(moved, [found[i] for i in order])
    for batch_tokens in (8, 4096):
        np.testing.assert_array_equal(generated(model, TEXTS, 6, MEM, batch_tokens=batch_tokens), found)
    alone = [generated(model, [text], 6, mem_KxD[None])[0] for text, mem_KxD in zip(TEXTS, MEM, strict=True)]
    np.testing.assert_array_equal(alone, found)


def test_a_memory_alone_continues_as_the_ordinary_decoder_says(model):
    found = generated(model, [TEXTS[2]] * len(MEM), 6, MEM)
    np.testing.assert_array_equal(found, decode.cached(model, MEM, 6))


@pytest.mark.parametrize("layers", [[True, False], [False, True], [True, True]])
def test_knocked_out_layers_do_not_see_the_memory(model, layers):
    found = generated(model, TEXTS[:4], 4, MEM[:4], knockout_L=np.array(layers))
    for text, mem_KxD, new in zip(TEXTS, MEM, found, strict=False):
        if not len(text):
            continue
        tokens = text.tolist()
        for _ in new:
            logits, _weights = plain.run(model, mem_KxD, tokens, layers)
            tokens.append(int(logits[-1].argmax()))
        assert new.tolist() == tokens[len(text) :]


def test_texts_of_few_padded_lengths_are_few_traces(model):
    before = decode._continued._cache_size()
    rng = np.random.default_rng(0)
    generated(model, [rng.integers(0, 48, length) for length in range(1, 17)], 3)
    assert decode._continued._cache_size() <= before + 2  # 8 and 16 tokens


def test_tokens_end_before_an_end_token_and_where_a_logit_is_not_finite(model):
    ending = lively(LlamaConfig(**TINY | {"eos_token_ids": (7, 9)}))
    assert until_end(ending, np.array([3, 5, 9, 4, 7]), "item 4") == [3, 5]
    assert until_end(ending, np.array([7, -1]), "item 4") == []
    assert until_end(model, np.array([3, 9, 7]), "item 4") == [3, 9, 7]
    (new,) = generated(model, TEXTS[:1], 3, np.full_like(MEM[:1], np.nan))
    with pytest.raises(UserError, match="item 4: a logit after its text is not finite; the model is dam"):
        until_end(model, new, "item 4")
