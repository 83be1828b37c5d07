"""Small models and texts for the engine's tests."""

import numpy as np
import pytest

from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig
from jaxcram.text.tokens import Sample
from tests.lively import TINY, lively


@pytest.fixture(scope="session")
def tiny() -> Decoder:
    """A random two-layer Llama: quick to compile, and good for a handful of tokens."""
    return lively(LlamaConfig(**TINY))


@pytest.fixture(scope="session")
def samples(tiny: Decoder) -> list[Sample]:
    """Three targets of random tokens, of different lengths."""
    rng = np.random.default_rng(1)
    return [
        Sample(i, "", rng.integers(0, tiny.config.vocab_size, n).astype(np.int32))
        for i, n in enumerate((20, 33, 26))
    ]
