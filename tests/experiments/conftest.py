"""Items of a task, and models that answer them."""

import json
from pathlib import Path

import pytest

from jaxcram import api
from jaxcram.loading import Model
from jaxcram.models import port
from jaxcram.models.llama import LlamaConfig
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.lively import TINY, lively

ENDINGS = (["the end.", "no"], ["a", "bcd", "efgh"])
ITEMS = [
    {"context": text, "endings": ENDINGS[i % 2], "label": i % 2, "kind": "story"}
    for i, text in enumerate(["one day", "ab cd ", "a cat sat", "ab", "xy", "then he"])
]
OPTIONS = {"learning_rates": 0.1, "max_steps": 200, "warmup_steps": 5, "max_steps_per_token": 60}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of `ITEMS`."""
    file = tmp_path_factory.mktemp("items") / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return str(file)


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Model:  # noqa: F811
    """The one layer of random weights, loaded."""
    return api.load_model(tiny_model)


def lively_model(tokenizer_of: Path, directory: Path, **numbers: int) -> Model:
    """A model whose attention does something, with the single-byte tokenizer of another."""
    port.save(lively(LlamaConfig(**TINY | {"vocab_size": 256} | numbers)), directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((tokenizer_of / name).read_bytes())
    return api.load_model(directory)
