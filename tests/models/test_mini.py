"""The bundled model is what its card says it is."""

import re

import jax
import numpy as np
import optax
import pytest

from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.text.sources import load_texts
from jaxcram.text.stories import HELD_OUT_SEED, stories
from jaxcram.text.tokens import load_tokenizer

CARD = (port.bundled_model() / "README.md").read_text(encoding="utf-8")
NUM_STORIES = 32

pytestmark = pytest.mark.optimised


def card(pattern: str) -> float:
    """The one figure of the card that stands where the pattern has its group."""
    (figure,) = re.findall(pattern, CARD)
    return float(figure.replace(",", ""))


@jax.jit
def token_losses(decoder: Decoder, tokens_BxT: jax.Array) -> jax.Array:
    """Nats of every token but the first, [B, T - 1]."""
    logits = decoder.logits(decoder(decoder.embed(tokens_BxT[:, :-1])))
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens_BxT[:, 1:])


def test_held_out_loss_equals_the_model_card() -> None:
    decoder, tokenizer = (
        port.load(port.bundled_model(), dtype="float32"),
        load_tokenizer(port.bundled_model()),
    )
    encoded = [tokenizer.encode(story) for story in stories(HELD_OUT_SEED, NUM_STORIES)]
    longest = max(map(len, encoded))
    tokens_BxT = np.array([ids + [0] * (longest - len(ids)) for ids in encoded])
    real = np.arange(1, longest) < np.array([len(ids) for ids in encoded])[:, None]
    loss = np.asarray(token_losses(decoder, tokens_BxT))[real].mean()
    assert abs(loss - card(r"first 32 held-out stories[^|]*\| ([\d.]+)")) < 1e-3


def test_size_and_heads_equal_the_model_card() -> None:
    decoder = port.load(port.bundled_model())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(decoder))
    assert parameters == card(r"([\d,]+) parameters")
    size = (port.bundled_model() / "model.safetensors").stat().st_size
    assert 2 * parameters < size <= 10_000_000  # two bytes each, and the header
    assert decoder.config.num_heads == 2 * decoder.config.num_kv_heads


def test_every_bundled_passage_fits() -> None:
    decoder, tokenizer = port.load(port.bundled_model()), load_tokenizer(port.bundled_model())
    longest = max(len(tokenizer.encode(text.text)) for text in load_texts("passages", num_samples=None))
    assert longest <= decoder.config.max_positions
