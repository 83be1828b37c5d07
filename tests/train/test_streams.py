"""Token files and windows."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from jaxcram.errors import UserError
from jaxcram.text.tokens import Tokenizer
from jaxcram.train.corpora import Corpus
from jaxcram.train.streams import (
    Limits,
    Stream,
    held_out_batches,
    id_dtype,
    open_stream,
    require_windows,
    training_windows,
)
from tests.train.tiny import TINY


def test_windows_depend_on_seed_and_step_alone_and_keep_the_shares() -> None:
    one, two = (np.full(100, token, np.uint16) + np.arange(100, dtype=np.uint16) for token in (0, 1000))
    streams = [Stream("one", 0.75, one, one, 1.0), Stream("two", 0.25, two, two, 1.0)]
    settings = dataclasses.replace(TINY, batch_size=400)

    def at(step: int) -> np.ndarray:
        return training_windows(streams, settings.seed, step, *settings.shape_at(step))

    windows = at(7)
    assert windows.shape == (400, 17)
    assert (np.diff(windows, axis=1) == 1).all()
    assert (windows == at(7)).all()
    assert (windows != at(8)).any()
    assert at(9).shape == (200, 33)  # the last quarter of 12 steps
    share = (windows[:, 0] < 1000).mean()
    assert abs(share - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 400)  # four standard errors


def test_held_out_windows_follow_each_other() -> None:
    tokens = np.arange(16 * 9 + 5, dtype=np.uint16)
    batches = list(held_out_batches(Stream("s", 1.0, tokens, tokens, 1.0), batch=4, length=16))
    assert [batch.shape for batch in batches] == [(4, 17), (4, 17)]
    assert np.concatenate([batch[:, 1:].ravel() for batch in batches]).tolist() == list(range(1, 16 * 8 + 1))


WORDS = Corpus("words", 1.0, "digest", ["w1 w65535", "w2"], ["w65536 w3", "w4"])


def tokenizer(size: int, digest: str = "one") -> Tokenizer:
    """Of the words w2, w3, ..., whose ids are their numbers, BOS (0) and EOS (1)."""
    vocab = {"<s>": 0, "</s>": 1} | {f"w{i}": i for i in range(2, size)}
    backend = Backend(models.WordLevel(vocab, unk_token="<s>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokenizer(backend, name="words", bos_token="<s>", eos_token="</s>", digest=digest)


@pytest.mark.parametrize(
    ("size", "dtype", "largest"), [(2**16, np.uint16, [0, 3, 1]), (2**16 + 1, np.uint32, [65536, 3, 1])]
)
def test_ids_are_stored_as_the_vocabulary_needs_and_come_back(
    tmp_path: Path, size: int, dtype: type, largest: list[int]
) -> None:
    """Of 65537 tokens the last one does not fit into 16 bits."""
    stem = tmp_path / "0"
    stream = open_stream(WORDS, tokenizer(size), size, Limits(100, 100), stem)
    assert (id_dtype(size), stream.train.dtype, stream.held_out.dtype) == (dtype, dtype, dtype)
    assert stream.train.tolist() == [0, 65535, 1, 2, 1]
    assert stream.held_out.tolist() == [*largest, 4, 1]
    assert stream.characters_per_token == len("w65536 w3w4") / 5
    about = json.loads((tmp_path / "0.json").read_text())
    assert (about["vocab_size"], about["tokenizer"], about["source"]) == (size, "one", "words")
    assert about["parts"]["train"]["dtype"] == np.dtype(dtype).str
    written = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = open_stream(Corpus("words", 1.0, "digest", [], []), tokenizer(size), size, Limits(100, 100), stem)
    assert (again.train.tolist(), again.held_out.tolist()) == (
        stream.train.tolist(),
        stream.held_out.tolist(),
    )
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written


def test_whole_documents_are_taken_until_there_are_enough_tokens(tmp_path: Path) -> None:
    stream = open_stream(WORDS, tokenizer(9), 9, Limits(3, 1), tmp_path / "0")
    assert (stream.train.tolist(), stream.held_out.tolist()) == ([0, 0, 1], [0, 3, 1])


def test_ids_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        open_stream(WORDS, tokenizer(2**16), 100, Limits(100, 100), tmp_path / "0")
    assert str(refusal.value) == (
        "token 65535 of 'w1 w65535' is beyond the model's vocabulary of 100: "
        "tokenizer and model do not belong together"
    )
    assert not (tmp_path / "0.json").exists()


def damage_ids(folder: Path) -> None:
    content = bytearray((folder / "0-train.bin").read_bytes())
    content[2] ^= 1
    (folder / "0-train.bin").write_bytes(content)


def remove_ids(folder: Path) -> None:
    (folder / "0-held-out.bin").unlink()


def empty_document(folder: Path) -> None:
    (folder / "0.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_ids, "wrong digest of 0-train.bin"),
        (remove_ids, "0-held-out.bin: No such file or directory"),
        (empty_document, "'vocab_size' is missing"),
    ],
)
def test_damaged_token_files_are_refused(tmp_path: Path, damage: Callable[[Path], None], why: str) -> None:
    open_stream(WORDS, tokenizer(9), 9, Limits(100, 100), tmp_path / "0")
    damage(tmp_path)
    with pytest.raises(UserError) as refusal:
        open_stream(WORDS, tokenizer(9), 9, Limits(100, 100), tmp_path / "0")
    assert str(refusal.value) == (
        f"{tmp_path}/0.json: the token files are damaged ({why}); remove {tmp_path} and start the same "
        "command again, which writes it again"
    )


def test_token_files_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    open_stream(WORDS, tokenizer(9), 9, Limits(100, 100), tmp_path / "0")
    with pytest.raises(UserError, match="its tokens belong to another tokenizer"):
        open_stream(WORDS, tokenizer(9, "two"), 9, Limits(100, 100), tmp_path / "0")


def test_a_part_that_is_shorter_than_a_window_is_refused() -> None:
    long, short = np.zeros(9, np.uint16), np.zeros(8, np.uint16)
    require_windows([Stream("long", 1.0, long, long, 1.0)], 8)
    with pytest.raises(UserError) as refusal:
        require_windows([Stream("long", 0.5, long, long, 1.0), Stream("short", 0.5, long, short, 1.0)], 8)
    assert str(refusal.value) == (
        "sources: the held-out part of short has 8 tokens, fewer than a window of 8 + 1; give more text, or "
        "lower max_positions"
    )
