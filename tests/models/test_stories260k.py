"""A checkpoint that others trained has to say what it is known to say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tokenizers import Tokenizer

from jaxcram.models import port

pytestmark = pytest.mark.optimised

TEXT = (
    "Zoo was a little girl named Lily. She loved to play outside in the park. One day, she "
    "saw a big, red ball. She wanted to play with it, but she didn't want to play with it."
)


@pytest.mark.slow
def test_stories260k_generates_its_reference_text(shared: Path):
    directory = shared / "models" / "stories260K"
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    expected = tokenizer.encode(TEXT).ids
    tokens = tokenizer.encode("Zoo").ids
    decoder = port.load(directory, dtype="float32")
    next_tokens = jax.jit(lambda decoder, x_BxT: decoder.logits(decoder(decoder.embed(x_BxT))).argmax(-1))
    while len(tokens) < len(expected):
        padded = jnp.zeros((1, len(expected)), jnp.int32).at[0, : len(tokens)].set(jnp.array(tokens))
        tokens.append(int(next_tokens(decoder, padded)[0, len(tokens) - 1]))
    assert tokens == expected
    assert tokenizer.decode(tokens) == TEXT
