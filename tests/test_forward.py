"""One place where memory, given tokens, knockout and text meet: what predicts what, and what reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram import forward
from jaxcram.forward import Conditions, token_fits, token_fits_under, token_nll
from jaxcram.models import head
from jaxcram.models.decoder import OwnRowKnockout
from jaxcram.models.llama import LlamaConfig
from tests.cram.conftest import tiny  # noqa: F401
from tests.lively import TINY, lively

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
def test_a_token_is_right_where_its_logit_is_above_all_others(tiny, num_memory):  # noqa: F811
    mem, tokens = before(tiny, num_memory, 0)[0], TOKENS.copy()
    hidden = predict(tiny, mem, tokens)
    first = (np.asarray(hidden) @ np.asarray(tiny.head.weight).T).argmax(-1)
    tokens[:, -1] = first[0, -1], first[1, -1] + 1  # the last token is not read, so `first` stays
    unpredicted = 0 if num_memory else 1
    right = np.pad(first == tokens[:, unpredicted:], ((0, 0), (unpredicted, 0)))
    fits = token_fits(tiny, mem, tokens)
    np.testing.assert_array_equal(fits.correct, right)
    assert fits.correct[:, -1].tolist() == [True, False]
    np.testing.assert_array_equal(fits.nll, token_nll(tiny, mem, tokens))


CONDITIONS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 1, 1]], bool)


def test_conditions_share_the_layers_before_which_they_are_alike():
    made = Conditions.of(CONDITIONS)
    assert made.trunks_RxL.tolist() == [[False] * 3, [True] * 3]
    assert made.first_C.tolist() == [3, 1, 1, 2, 3, 2, 1]
    deep = np.concatenate([[np.arange(30) < k, np.arange(30) >= k, np.arange(30) == k] for k in range(30)])
    made = Conditions.of(deep)
    assert made.trunks_RxL.tolist() == [[False] * 30, [True] * 30]
    for layers_L, trunk, first in zip(deep, made.trunk_C, made.first_C, strict=True):
        trunk_L = made.trunks_RxL[trunk]
        np.testing.assert_array_equal(layers_L[:first], trunk_L[:first])
        assert first == 30 or layers_L[first] != trunk_L[first]
    assert 60 + (30 - made.first_C).sum() == 1394  # layers that run, of 2700
    for few in (CONDITIONS[:1], CONDITIONS[1:3]):  # as many layers without a trunk
        made = Conditions.of(few)
        assert made.trunks_RxL.shape == (0, 3)
        assert made.first_C.tolist() == [0] * len(few)


@pytest.mark.parametrize("own_row", [False, True])
@pytest.mark.parametrize(
    "rows",
    [slice(None), *(pytest.param(rows, marks=pytest.mark.slow) for rows in (slice(1, 3), slice(3, None)))],
)
def test_fits_under_conditions_are_those_of_each_alone(own_row, rows):
    deep = lively(LlamaConfig(**TINY | {"num_layers": 3}))
    mem, layers_CxL, lengths = before(deep, 2, 0)[0], CONDITIONS[rows], np.full(LANES, 2 + LENGTH, np.int32)
    for model in (deep, deep.unstacked()):
        conditions, own = Conditions.of(layers_CxL), lengths if own_row else None
        fits = token_fits_under(model, mem, TOKENS, conditions, own)
        for number, layers_L in enumerate(layers_CxL):
            knockout = np.tile(layers_L, (LANES, 1))
            alone = token_nll(
                model, mem, TOKENS, knockout_SxL=OwnRowKnockout(knockout, lengths) if own_row else knockout
            )
            np.testing.assert_allclose(fits.nll[:, number], alone, atol=1e-5)


@pytest.mark.slow
def test_token_nll_is_the_same_in_chunks_of_tokens(tiny, monkeypatch):  # noqa: F811
    mem, tokens = before(tiny, 3, 0)[0], TOKENS[:, :5]  # a shape of its own, which no other test has compiled
    whole = token_nll(tiny, mem, tokens)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 4 * 48)  # 4 tokens a chunk: 10 tokens are padded to 12
    jax.clear_caches()
    np.testing.assert_allclose(token_nll(tiny, mem, tokens), whole, atol=1e-5)
