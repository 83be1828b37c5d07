import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram import decode
from jaxcram.forward import predict
from tests.cram.conftest import samples, tiny  # noqa: F401


def greedy_by_full_passes(model, mem, length):
    """One token at a time, each from a full forward pass over [memory, tokens so far]."""
    tokens = np.zeros((mem.shape[0], length), np.int32)
    for i in range(length):
        logits = model.logits(predict(model, mem, jnp.asarray(tokens)))
        tokens[:, i] = np.argmax(logits[:, i], axis=-1)
    return tokens


@pytest.mark.parametrize("num_memory", [1, 3])
def test_both_decoders_follow_the_argmax(tiny, num_memory):  # noqa: F811
    mem = np.random.default_rng(0).normal(0, 1, (2, num_memory, tiny.config.width)).astype(np.float32)
    expected = greedy_by_full_passes(tiny, mem, 12)
    np.testing.assert_array_equal(decode.cached(tiny, mem, 12), expected)
    for draft in (np.zeros((2, 12), np.int32), expected[:, ::-1].copy(), expected):
        tokens, passes = decode.exact(tiny, mem, draft)
        np.testing.assert_array_equal(tokens, expected)
        assert passes <= 13
    assert passes == 1, "a right draft needs one pass to be confirmed"


def test_the_memory_comes_first_and_the_last_token_is_never_read(tiny, samples):  # noqa: F811
    mem = np.random.default_rng(0).normal(0, 1, (1, 2, tiny.config.width)).astype(np.float32)
    tokens = samples[0].tokens[None, :10].copy()
    hidden = predict(tiny, mem, tokens)
    whole = tiny(jnp.concatenate([mem, tiny.embed(tokens)], axis=1))
    np.testing.assert_allclose(hidden, whole[:, 1:-1], atol=1e-5)
    tokens[0, -1] = 0
    np.testing.assert_array_equal(hidden, predict(tiny, mem, tokens))
