import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram import decode
from jaxcram.forward import predict
from jaxcram.text.tokens import pad_tokens
from tests.cram.conftest import samples, tiny  # noqa: F401


@jax.jit
def argmaxes(model, mem, tokens):
    return jnp.argmax(model.logits(predict(model, mem, tokens)), axis=-1)


def greedy_by_full_passes(model, mem, length):
    """One token at a time, each from a full forward pass over [memory, tokens so far]."""
    tokens = np.zeros((mem.shape[0], length), np.int32)
    for i in range(length):
        tokens[:, i] = argmaxes(model, mem, tokens)[:, i]
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


@pytest.mark.parametrize("num_memory", [0, 3])
def test_texts_of_different_lengths_go_on_as_if_each_were_alone(tiny, num_memory):  # noqa: F811
    """Texts of up to nine tokens in one pass, after memory and without; of none only after memory."""
    rng = np.random.default_rng(0)
    lengths = np.array([4, 9, 1, 7, 0, 8] if num_memory else [4, 9, 1, 7], np.int32)
    texts = [rng.integers(0, 48, n).astype(np.int32) for n in lengths]
    mem = rng.normal(0, 1, (len(texts), num_memory, tiny.config.width)).astype(np.float32)
    mem = mem if num_memory else None
    expected = pad_tokens(texts, len(texts), 16)
    for i in range(5):
        predicted = np.asarray(argmaxes(tiny, mem, expected))  # entry j is token j, or without memory j + 1
        rows = np.arange(len(texts))
        expected[rows, lengths + i] = predicted[rows, lengths + i - (mem is None)]
    found = decode.continued(tiny, mem, pad_tokens(texts, len(texts), 12), lengths, 5)
    wanted = [row[n : n + 5].tolist() for row, n in zip(expected, lengths, strict=True)]
    assert np.asarray(found).tolist() == wanted
    assert len({tuple(row) for row in wanted}) == len(texts)


def test_what_follows_a_logit_that_is_not_finite_is_marked(tiny):  # noqa: F811
    mem = np.zeros((2, 1, tiny.config.width), np.float32)
    mem[1, 0, 0] = np.nan
    found = np.asarray(decode.continued(tiny, mem, np.zeros((2, 4), np.int32), np.array([2, 3], np.int32), 2))
    assert (found[0] >= 0).all()
    assert found[1, 0] == -1


def test_verify_decodes_each_as_if_it_were_alone(tiny, samples):  # noqa: F811
    """Five embeddings in two shapes, whose batches are not full; targets shorter than their shapes."""
    mem = np.random.default_rng(0).normal(0, 1, (5, 2, tiny.config.width)).astype(np.float32)
    shapes = [(12, 2), (9, 4), (12, 2), (12, 2), (9, 4)]
    targets = [samples[i % 3].tokens[:n] for i, n in enumerate((12, 9, 1, 7, 8))]
    greedy = greedy_by_full_passes(tiny, mem, 12)
    forced = argmaxes(tiny, mem, pad_tokens(targets, 5, 12))
    found = decode.verify(tiny, mem, targets, shapes)
    assert len(found) == 5
    for i, (target, tokens) in enumerate(zip(targets, found, strict=True)):
        assert {name: x.tolist() for name, x in tokens.items()} == {
            "teacher_forced": forced[i, : len(target)].tolist(),
            "exact": greedy[i, : len(target)].tolist(),
            "cached": greedy[i, : len(target)].tolist(),
        }
    assert not np.array_equal(found[0]["teacher_forced"], found[0]["exact"])


def test_verify_says_of_an_exact_embedding_that_it_gives_its_target_back(tiny):  # noqa: F811
    mem = np.random.default_rng(0).normal(0, 1, (1, 1, tiny.config.width)).astype(np.float32)
    target = greedy_by_full_passes(tiny, mem, 6)[0]
    (tokens,) = decode.verify(tiny, mem, [target], [(8, 3)])
    assert {name: x.tolist() for name, x in tokens.items()} == dict.fromkeys(tokens, target.tolist())


def test_nothing_to_verify_is_no_work(tiny):  # noqa: F811
    assert decode.verify(tiny, np.zeros((0, 1, tiny.config.width), np.float32), [], []) == []
