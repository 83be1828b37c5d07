"""A model small enough to cram with in a second, as a directory in Hugging Face layout."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig

POSITIONS = 48


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Llama layer of random weights, and a tokenizer of single bytes. Not to be written to."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    config = LlamaConfig(
        vocab_size=256,
        width=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_size=16,
        mlp_width=64,
        max_positions=POSITIONS,
        tied_head=True,
        norm_eps=1e-6,
    )
    port.save(Decoder(config, dtype=jnp.float32, rngs=nnx.Rngs(0)), directory)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
    return directory
