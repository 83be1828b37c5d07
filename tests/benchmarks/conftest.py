"""Makes the benchmark programs importable: they find each other and `common` in their own folder."""

import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig
from jaxcram.text.tokens import Sample
from tests.lively import TINY

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def llama():
    """Makes a small Llama: `llama(num_layers=2, ...)` changes its numbers."""

    def make(**numbers):
        small = TINY | {"vocab_size": 64, "norm_eps": 1e-6}
        return Decoder(LlamaConfig(**{**small, **numbers}), rngs=nnx.Rngs(0))

    return make


@pytest.fixture
def samples():
    """Four targets of eight random tokens."""
    tokens = np.random.default_rng(0).integers(0, 64, (4, 8), np.int32)
    return [Sample(sample_id, "", row) for sample_id, row in enumerate(tokens)]
