"""One place where memory, given tokens, knockout and text meet: what predicts what, and what reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram import forward
from jaxcram.forward import token_fits, token_nll
from jaxcram.models import head
from tests.cram.conftest import tiny  # noqa: F401

LANES, LENGTH = 2, 6
TOKENS = np.random.default_rng(0).integers(0, 48, (LANES, LENGTH)).astype(np.int32)
GIVEN = np.random.default_rng(1).integers(0, 48, (LANES, 2)).astype(np.int32)
# Memory embeddings K and given tokens P.
CASES = pytest.mark.parametrize(("num_memory", "num_given"), [(0, 0), (0, 2), (1, 0), (3, 2)])

predict = jax.jit(forward.predict)


def before(model, num_memory, num_given):
    """Memory and given tokens; None where there are none."""
    shape = (LANES, num_memory, model.config.width)
    mem = np.random.default_rng(2).normal(0, 1, shape).astype(np.float32) if num_memory else None
    return mem, GIVEN[:, :num_given] if num_given else None


@CASES
def test_entry_i_predicts_token_i_and_the_last_token_is_never_read(tiny, num_memory, num_given):  # noqa: F811
    mem, given = before(tiny, num_memory, num_given)
    hidden = predict(tiny, mem, TOKENS, given_BxP=given)
    inputs = tiny.embed(np.concatenate([GIVEN[:, :num_given], TOKENS], axis=1))
    whole = tiny(inputs if mem is None else jnp.concatenate([mem, inputs], axis=1))
    first = num_memory + num_given - 1
    np.testing.assert_allclose(hidden, whole[:, first:-1] if first >= 0 else whole[:, :-1], atol=1e-5)
    other = TOKENS.copy()
    other[:, -1] = (other[:, -1] + 1) % 48
    np.testing.assert_array_equal(hidden, predict(tiny, mem, other, given_BxP=given))


def test_given_tokens_are_text_that_is_not_scored(tiny):  # noqa: F811
    mem, given = before(tiny, 3, 2)
    whole = token_nll(tiny, mem, np.concatenate([given, TOKENS], axis=1))
    np.testing.assert_array_equal(token_nll(tiny, mem, TOKENS, given_SxP=given), whole[:, 2:])


@pytest.mark.parametrize("num_memory", [0, 2])
def test_gradients_reach_memory_and_tokens_before_and_no_later_one(tiny, num_memory):  # noqa: F811
    """Every token has another id, so that rows of the table of embeddings are positions of the text."""
    num_given, mem = 2, before(tiny, num_memory, 0)[0]
    positions = np.arange(num_given + LENGTH, dtype=np.int32)[None]

    def projected(mem, model):
        given, target = positions[:, :num_given], positions[:, num_given:]
        hidden = forward.predict(model, mem, target, given_BxP=given)
        return hidden[0] @ jnp.arange(1.0, 1.0 + model.config.width)

    to_mem, to_model = jax.jit(jax.jacrev(projected, argnums=(0, 1)))(mem if mem is None else mem[:1], tiny)
    reached = to_model.embedding_VxD[...][:, : num_given + LENGTH].any(-1)
    np.testing.assert_array_equal(reached, np.tri(LENGTH, num_given + LENGTH, num_given - 1, dtype=bool))
    if num_memory:
        assert to_mem.any(-1).all(), "every memory embedding reaches every token"


def test_where_the_memory_is_knocked_out_in_all_layers_the_text_is_alone(tiny):  # noqa: F811
    mem, given = before(tiny, 3, 2)
    all_layers = np.array([[True, True], [False, False]])  # of lane 0
    knocked = predict(tiny, mem, TOKENS, given_BxP=given, knockout_BxL=all_layers)
    alone = predict(tiny, None, TOKENS, given_BxP=given)
    crammed = predict(tiny, mem, TOKENS, given_BxP=given)
    np.testing.assert_allclose(knocked[0], alone[0], atol=1e-3)  # positions differ: rotations round
    np.testing.assert_allclose(knocked[1], crammed[1], atol=1e-5)
    assert np.abs(crammed[0] - alone[0]).max() > 0.5, "the memory does matter here"


def test_the_first_token_is_predicted_by_the_memory_itself_which_no_knockout_touches(tiny):  # noqa: F811
    mem, _ = before(tiny, 3, 0)
    knocked = predict(tiny, mem, TOKENS, knockout_BxL=np.ones((LANES, 2), bool))
    np.testing.assert_allclose(knocked[:, 0], predict(tiny, mem, TOKENS)[:, 0], atol=1e-5)
    np.testing.assert_allclose(knocked[:, 1:], predict(tiny, None, TOKENS), atol=1e-3)


@CASES
@pytest.mark.parametrize("knockout", [None, np.array([[True, False], [False, True]])])
def test_token_nll_is_that_of_log_softmax(tiny, num_memory, num_given, knockout):  # noqa: F811
    mem, given = before(tiny, num_memory, num_given)
    nll = token_nll(tiny, mem, TOKENS, given_SxP=given, knockout_SxL=knockout)
    hidden = predict(tiny, mem, TOKENS, given_BxP=given, knockout_BxL=knockout)
    logits = np.asarray(hidden, np.float64) @ np.asarray(tiny.head.weight, np.float64).T
    log_sum = np.log(np.exp(logits).sum(-1))
    unpredicted = 0 if num_memory + num_given else 1
    true = np.take_along_axis(logits, TOKENS[:, unpredicted:, None], axis=-1)[..., 0]
    expected = np.pad(log_sum - true, ((0, 0), (unpredicted, 0)))
    np.testing.assert_allclose(nll, expected, atol=2e-5)


@pytest.mark.parametrize("num_memory", [0, 2])
@pytest.mark.parametrize("knockout", [None, np.array([[True, False], [False, True]])])
def test_a_token_is_right_where_its_logit_is_above_all_others(tiny, num_memory, knockout):  # noqa: F811
    mem, tokens = before(tiny, num_memory, 0)[0], TOKENS.copy()
    hidden = predict(tiny, mem, tokens, knockout_BxL=knockout)
    first = (np.asarray(hidden) @ np.asarray(tiny.head.weight).T).argmax(-1)
    tokens[:, -1] = first[0, -1], first[1, -1] + 1  # the last token is not read, so `first` stays
    unpredicted = 0 if num_memory else 1
    right = np.pad(first == tokens[:, unpredicted:], ((0, 0), (unpredicted, 0)))
    fits = token_fits(tiny, mem, tokens, knockout)
    np.testing.assert_array_equal(fits.correct, right)
    assert fits.correct[:, -1].tolist() == [True, False]
    np.testing.assert_array_equal(fits.nll, token_nll(tiny, mem, tokens, knockout_SxL=knockout))


def test_token_nll_is_the_same_in_chunks_of_tokens(tiny, monkeypatch):  # noqa: F811
    mem, tokens = before(tiny, 3, 0)[0], TOKENS[:, :5]  # a shape of its own, which no other test has compiled
    whole = token_nll(tiny, mem, tokens)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 4 * 48)  # 4 tokens a chunk: 10 tokens are padded to 12
    jax.clear_caches()
    np.testing.assert_allclose(token_nll(tiny, mem, tokens), whole, atol=1e-5)
