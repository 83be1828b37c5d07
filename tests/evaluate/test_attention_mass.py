"""Attention on the memory and on BOS, against plain NumPy, and live against transformers."""

from pathlib import Path

import numpy as np
import pytest

from jaxcram.evaluate.attention import correlation, masses
from jaxcram.models import port
from tests import plain
from tests.cram.conftest import tiny  # noqa: F401

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
TEXTS = [np.random.default_rng(n).integers(0, 40, n).astype(np.int32) for n in (5, 9, 12, 1)]


def memories(model, num_memory):
    shape = (len(TEXTS), num_memory, model.config.width)
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


def expected_mass(weights_LxHxTxS, num_first):
    """Queries after the first positions, averaged; NaN where there are none."""
    on_first_LxHxT = weights_LxHxTxS[:, :, num_first:, :num_first].sum(-1)
    return (
        np.asarray(on_first_LxHxT.mean((1, 2)))
        if on_first_LxHxT.size
        else np.full(len(on_first_LxHxT), np.nan)
    )


@pytest.mark.parametrize("num_memory", [1, 3])
def test_mass_on_the_memory_is_that_of_plain_numpy(tiny, num_memory):  # noqa: F811
    mem = memories(tiny, num_memory)
    expected = [
        expected_mass(plain.run(tiny, own, text)[1], num_memory) for own, text in zip(mem, TEXTS, strict=True)
    ]
    for model in (tiny, tiny.unstacked()):
        np.testing.assert_allclose(masses(model, TEXTS, mem), expected, atol=1e-4, rtol=0)


def test_mass_on_the_first_token_of_the_text_alone_is_that_of_plain_numpy(tiny):  # noqa: F811
    expected = [expected_mass(plain.run(tiny, None, text)[1], 1) for text in TEXTS]
    found = masses(tiny, TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.isnan(found[-1]).all(), "one token has no query after it"


def test_the_row_of_the_memory_itself_does_not_count(tiny):  # noqa: F811
    """It gives all of its weight to the one embedding: a mass of that row alone reads 100%."""
    mem = memories(tiny, 1)
    weights = plain.run(tiny, mem[0], TEXTS[0])[1]
    np.testing.assert_array_equal(weights[:, :, 0, 0], 1)
    found = masses(tiny, TEXTS[:1], mem[:1])[0]
    assert (found < 0.9).all()
    with_own_row = weights[..., 0].mean((1, 2))
    assert (np.abs(found - with_own_row) > 0.01).all()


def test_order_and_batches_change_no_mass(tiny):  # noqa: F811
    mem, order = memories(tiny, 2), [2, 0, 3, 1]
    found = masses(tiny, TEXTS, mem)
    np.testing.assert_array_equal(masses(tiny, [TEXTS[i] for i in order], mem[order]), found[order])
    np.testing.assert_allclose(masses(tiny, TEXTS, mem, batch_tokens=16), found, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gemma_plain", "qwen3_sliding", "neox_parallel"])
def test_masses_of_windows_and_other_families_are_those_of_transformers(case):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = port.load(PARITY / case, dtype="float32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        PARITY / case, attn_implementation="eager", dtype=torch.float32
    ).eval()
    mem, texts = memories(model, 2)[:3], TEXTS[:3]
    tokens = [model.embed(text[None])[0] for text in texts]  # scaled, as the memory is not
    for before, found in ((mem, masses(model, texts, mem)), (None, masses(model, texts))):
        for number, own in enumerate(found):
            inputs = np.asarray(tokens[number])
            if before is not None:
                inputs = np.concatenate([before[number], inputs])
            with torch.no_grad():
                output = theirs(inputs_embeds=torch.tensor(inputs)[None], output_attentions=True)
            weights = np.stack([layer[0].numpy() for layer in output.attentions])
            expected = expected_mass(weights, 1 if before is None else 2)
            np.testing.assert_allclose(own, expected, atol=1e-4, rtol=0)


def test_correlation_is_pearsons():
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1)
    assert correlation(np.array([1.0, 2.0, 4.0]), np.array([3.0, 1.0, 2.0])) == pytest.approx(
        -0.327327, abs=1e-6
    )
    assert np.isnan(correlation(np.ones(3), np.arange(3.0)))
