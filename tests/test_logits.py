"""Teacher-forced logits from Python, against a Llama in plain NumPy."""

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from jaxcram import api
from jaxcram.errors import UserError
from jaxcram.text.tokens import Tokenizer
from tests import plain
from tests.cram.conftest import tiny  # noqa: F401

TOKENS = [3, 17, 5, 40, 8, 21]
TEXT = " ".join(f"w{token}" for token in TOKENS)
MEM = np.random.default_rng(0).normal(0, 1, (3, 32)).astype(np.float32)
WIDTH = "embedding of shape [{}, {}]: the model takes [K, 32], one row for each memory embedding"
LONG = "text of 63 tokens after the embedding needs 65 positions, the model has 64: shorten the text"


@pytest.fixture(scope="module")
def model(tiny):  # noqa: F811
    backend = Backend(models.WordLevel({f"w{i}": i for i in range(48)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return api.Model(tiny, Tokenizer(backend, name="tiny", bos_token=None, eos_token=None), "tiny")


def shifted(model, mem, knocked=None):
    """Row i predicts token i: the logits one position earlier."""
    logits, _ = plain.run(model.decoder, mem, TOKENS, knocked)
    return logits[len(logits) - len(TOKENS) - 1 : -1]


@pytest.mark.parametrize("num_memory", [1, 3])
@pytest.mark.parametrize("knockout", [None, "1", {0}, np.array([True, True])])
def test_row_i_predicts_token_i_whatever_the_number_of_embeddings(model, num_memory, knockout):
    mem = MEM[:num_memory]
    knocked = {"None": None, "1": [False, True], "{0}": [True, False]}.get(str(knockout), [True, True])
    found = api.logits(model, mem, TEXT, knockout)
    assert (found.shape, found.dtype) == ((len(TOKENS), 48), np.float32)
    np.testing.assert_allclose(found, shifted(model, mem, knocked), atol=1e-4, rtol=0)


def test_the_text_alone_has_no_row_for_its_first_token_and_all_layers_barred_are_the_text_alone(model):
    alone = api.logits(model, None, TEXT)
    assert np.isnan(alone[0]).all()
    np.testing.assert_allclose(alone[1:], plain.run(model.decoder, None, TOKENS)[0][:-1], atol=1e-4, rtol=0)
    barred = api.logits(model, MEM, TEXT, "all")
    np.testing.assert_allclose(barred[1:], alone[1:], atol=1e-4, rtol=0)
    crammed = api.logits(model, MEM, TEXT)
    np.testing.assert_allclose(barred[0], crammed[0], atol=1e-5)
    assert np.abs(crammed[1:] - alone[1:]).max() > 0.1


def test_one_embedding_may_be_a_vector(model):
    np.testing.assert_array_equal(api.logits(model, MEM[0], TEXT), api.logits(model, MEM[:1], TEXT))


@pytest.mark.parametrize(
    ("embedding", "text", "knockout", "message"),
    [
        (MEM[:, :5], TEXT, None, WIDTH.format(3, 5)),
        (np.zeros((0, 32)), TEXT, None, WIDTH.format(0, 32)),
        (MEM * np.nan, TEXT, None, "embedding: it has entries that are not finite"),
        (MEM, "", None, "text '' has no tokens: give at least one word"),
        (MEM, 7, None, "text is of type int: give a string"),
        (MEM, "w1 " * 63, None, LONG),
        (MEM, TEXT, "2", "layers '2': there is no layer 2; the model has layers 0 to 1"),
        (MEM, TEXT, set(), "layers set(): no layer is named, which would bar nothing; name some"),
        (None, TEXT, "0", "knockout: without an embedding there is nothing to knock out; leave it out"),
    ],
)
def test_what_has_no_logits_is_refused(model, embedding, text, knockout, message):
    with pytest.raises(UserError) as refusal:
        api.logits(model, embedding, text, knockout)
    assert str(refusal.value) == message
