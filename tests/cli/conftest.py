"""A model small enough to cram with in a second, as a directory in Hugging Face layout."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jaxcram.cli.main import main
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


@pytest.fixture(scope="session")
def evaluate_command(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An evaluation of two items; the fourth argument is --data, the last one --out."""
    folder = tmp_path_factory.mktemp("evaluated")
    item = {"endings": ["the end.", "no"], "label": 0, "kind": "story"}
    lines = (json.dumps(item | {"context": context}) + "\n" for context in ("one day", "xyz"))
    (folder / "items.jsonl").write_text("".join(lines))
    return [
        *("evaluate", f"--model={tiny_model}", "--task=cloze", f"--data={folder / 'items.jsonl'}"),
        *("--learning_rates=1.0", "--max_steps=100", f"--out={folder / 'run'}"),
    ]


@pytest.fixture(scope="session")
def evaluated(evaluate_command: list[str]) -> Path:
    """Its directory, finished. Not to be written to."""
    assert main(evaluate_command) == 0
    return Path(evaluate_command[-1].removeprefix("--out="))
