"""The families are those that are listed, and the house knows of a decoder what the registry says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxcram.errors import UserError
from jaxcram.models import registry
from jaxcram.models.decoder import Decoder
from jaxcram.models.gemma import GemmaConfig
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.qwen import Qwen2Config, Qwen3Config
from jaxcram.models.smollm3 import SmolLM3Config

PACKAGE = Path(registry.__file__).resolve().parents[1]
PROTOCOL = set(re.findall(r"^    (\w+) ", registry.__doc__, re.MULTILINE))


def test_the_families():
    assert dict(registry.FAMILIES) == {
        "llama": LlamaConfig,
        "gpt_neox": NeoXConfig,
        "gemma3_text": GemmaConfig,
        "gemma3": GemmaConfig,
        "qwen2": Qwen2Config,
        "qwen3": Qwen3Config,
        "smollm3": SmolLM3Config,
    }
    written = {config.family for config in registry.FAMILIES.values()}
    assert registry.FAMILIES.keys() - written == {"gemma3"}


@pytest.mark.parametrize("values", [{}, {"model_type": "mamba"}, {"model_type": ["llama"]}])
def test_an_unknown_family_is_refused_with_those_that_are_known(values):
    with pytest.raises(UserError) as error:
        registry.read_config(values, "config.json")
    assert str(error.value) == (
        f"config.json: model_type = {values.get('model_type')!r} is not a family here; "
        "families: gemma3, gemma3_text, gpt_neox, llama, qwen2, qwen3, smollm3"
    )


def attributes(node: ast.AST, decoders: frozenset[str] = frozenset({"decoder"})) -> Iterator[str]:
    """Attributes of decoders that a source reads; `__call__` where it calls one.

    A decoder is what a function takes as `Decoder`, what is called `decoder`, and the attributes `decoder`
    and `_model` of anything.
    """
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.args, *node.args.kwonlyargs]
        kinds = {argument.arg: ast.unparse(argument.annotation or ast.Name("")) for argument in arguments}
        decoders = (decoders - kinds.keys()) | {name for name, kind in kinds.items() if kind == "Decoder"}

    def is_decoder(value: ast.AST) -> bool:
        if isinstance(value, ast.Attribute):
            return value.attr in {"decoder", "_model"}
        return isinstance(value, ast.Name) and value.id in decoders

    if isinstance(node, ast.Attribute) and is_decoder(node.value):
        yield node.attr
    if isinstance(node, ast.Call) and is_decoder(node.func):
        yield "__call__"
    for child in ast.iter_child_nodes(node):
        yield from attributes(child, decoders)


def test_the_house_uses_of_a_decoder_what_the_registry_lists():
    used = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name, text = path.relative_to(PACKAGE), path.read_text()
        if name.parts[0] != "models" and "from jaxcram.models.decoder import" in text:
            used |= dict.fromkeys(attributes(ast.parse(text)), str(name))
    assert {name: file for name, file in used.items() if name not in PROTOCOL} == {}
    assert PROTOCOL - used.keys() == set(), "listed, and used by nobody"
    assert [name for name in PROTOCOL - {"config"} if not hasattr(Decoder, name)] == []
