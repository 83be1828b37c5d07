"""Input of 100 MB: refused or read with little more memory than itself, and never searched for ever."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.text import tokenizer
from jaxcram.text.tokens import Text, load_texts, load_tokenizer, tokenize
from tests.hostile import oracle, valid
from tests.hostile.vocabularies import TEXT

SIZE = 100_000_000


def most_memory(call) -> int:
    valid.prepare()
    before = oracle._memory(reset=True)
    call()
    return oracle._memory() - before


def refused(call) -> str:
    lines = []

    def refusing() -> None:
        with pytest.raises(UserError) as caught:
            call()
        lines.append(str(caught.value))

    assert most_memory(refusing) < SIZE
    return lines[0]


def write(file: Path, parts: Iterator[bytes]) -> Path:
    with file.open("wb") as out:
        for part in parts:
            out.write(part)
    return file


def repeated(piece: bytes, before: bytes = b"", after: bytes = b"") -> Iterator[bytes]:
    yield before
    for _ in range(SIZE // len(piece) // 1000):
        yield piece * 1000
    yield after


@pytest.mark.parametrize(
    ("name", "parts", "why"),
    [
        ("line.txt", repeated(b"a"), "a line has more than 16777216 bytes"),
        ("lines.txt", repeated(b"a lot of\n"), "a text has more than 16777216 characters"),
        ("line.jsonl", repeated(b"[],", b'{"text": ['), "a line has more than 16777216 bytes"),
        ("quote.csv", repeated(b"a lot of,\n", b'text\n"'), "field larger than field limit"),
    ],
)
def test_a_text_of_100_mb_is_refused_before_it_is_in_memory(tmp_path, name, parts, why):
    file = write(tmp_path / name, parts)
    assert why in refused(lambda: load_texts(str(file), num_samples=None))


def test_only_the_needed_part_of_a_long_text_is_tokenised(tmp_path):
    file = write(tmp_path / "book.txt", iter([b"the end, \xf0\x9f\x98\x80 " * 1_000_000]))
    tokenizer = load_tokenizer(valid.model("llama", tmp_path))
    found = []

    def read() -> None:
        texts = load_texts(str(file), num_samples=1)
        found.extend(tokenize(texts, tokenizer, max_tokens=30, bos=True, max_positions=64))

    assert most_memory(read) < 2 * file.stat().st_size + (256 << 20)
    assert (len(found[0].tokens), found[0].tokens[0]) == (30, 256)
    assert found[0].text == tokenizer.decode(found[0].tokens.tolist())


def test_model_files_of_100_mb_are_refused_unread(tmp_path):
    model = valid.model("llama", tmp_path)
    (model / "tokenizer_config.json").unlink()
    write(model / "tokenizer.json", repeated(b'{"a": 0},', b"["))
    assert "more than 67108864 bytes" in refused(lambda: load_tokenizer(model))
    weights = (model / "model.safetensors").read_bytes()
    header = repeated(
        b'"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, ', SIZE.to_bytes(8, "little") + b"{"
    )
    write(model / "model.safetensors", header)
    assert "a header of 100000000 bytes" in refused(lambda: port.load(model))
    (model / "model.safetensors").write_bytes(weights)
    write(model / "config.json", repeated(b"[],", b'{"model_type": ['))
    assert "at most 16777216 are read" in refused(lambda: port.load(model))


def test_a_config_with_huge_sizes_takes_neither_memory_nor_time(tmp_path):
    model, tree = valid.model("llama", tmp_path), valid.tree("llama", "config.json")
    for field, size in (
        ("num_hidden_layers", 10**9),
        ("vocab_size", 2 * 10**9),
        ("intermediate_size", 2 * 10**9),
    ):
        (model / "config.json").write_text(json.dumps(tree | {field: size}))
        assert "give files that belong together" in refused(lambda: port.load(model))
    (model / "config.json").write_text(json.dumps(tree | {"vocab_size": 10**12}))
    assert "vocab_size = 1000000000000 should be a number from 1 to" in refused(lambda: port.load(model))


def test_an_endless_regular_expression_times_out(tmp_path, monkeypatch):
    model, tree = valid.model("llama", tmp_path), valid.tree("llama", "tokenizer.json")
    tree["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "(a|aa)+$"}
    (model / "tokenizer.json").write_text(json.dumps(tree))
    monkeypatch.setattr(tokenizer, "_PATIENCE_S", 0.2)
    slow = Text(0, ("a" * 29 + "b") * 20)
    with pytest.raises(UserError, match=r"it took more than 0\.2 s"):
        tokenize([slow], load_tokenizer(model), max_tokens=None, bos=None, max_positions=4096)


def test_a_regular_expression_that_fails_leaves_no_stack_trace(tmp_path, capfd):
    model, tree = valid.model("llama", tmp_path), valid.tree("llama", "tokenizer.json")
    tree["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "(a+)+$"}
    (model / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"tokenizer\.json does not work .*retry-limit-in-match"):
        load_tokenizer(model).encode(TEXT)
    assert capfd.readouterr().err == ""
