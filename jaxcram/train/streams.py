"""Token files, and the windows that are cut from them.

A source becomes two files of token ids, one to train on and one held out: its documents, one after the other,
each between BOS and EOS. Windows are cut from them anywhere, with no mask between documents, so that any
token may stand at position 0 and the model learns to use what is there: later a crammed embedding.

    N-train.bin, N-held-out.bin   ids as uint16 where the vocabulary fits, else as uint32, little-endian
    N.json                        what they hold, with digests; written last
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.results import disk
from jaxcram.text.tokens import Tokenizer
from jaxcram.train.corpora import Corpus

_ENCODE_AT_ONCE = 64  # documents


@dataclasses.dataclass(frozen=True)
class Stream:
    """The tokens of one source.

    Attributes:
        name: as in the mixture.
        share: of the windows, 0 to 1.
        train: token ids [N], uint16 or uint32, mapped from their file.
        held_out: the same.
        characters_per_token: of the held-out part, BOS and EOS counted as tokens.
    """

    name: str
    share: float
    train: np.ndarray
    held_out: np.ndarray
    characters_per_token: float


@dataclasses.dataclass(frozen=True)
class Limits:
    """The number of tokens after which no further document of a source is read.

    Attributes:
        train: of the training part.
        held_out: of the held-out part.
    """

    train: int
    held_out: int


def id_dtype(vocab_size: int) -> np.dtype:
    """The dtype in which ids below `vocab_size` are stored."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def open_stream(corpus: Corpus, tokenizer: Tokenizer, vocab_size: int, limits: Limits, stem: Path) -> Stream:
    """The tokens of a source, from STEM-train.bin and STEM-held-out.bin; without STEM.json these are written.

    Args:
        corpus: the source.
        tokenizer: makes the ids.
        vocab_size: of the model; ids are below it.
        limits: tokens of the source.
        stem: beginning of the names of the files; its directory exists.

    Raises:
        UserError: an id is beyond the vocabulary; the files are damaged or belong to another tokenizer.
        StoppedError: the disk is full or unavailable.
    """
    about_file = stem.with_name(f"{stem.name}.json")
    if not about_file.exists():
        parts = {
            "train": _write(corpus.train, tokenizer, vocab_size, limits.train, _file(stem, "train")),
            "held-out": _write(
                corpus.held_out, tokenizer, vocab_size, limits.held_out, _file(stem, "held-out")
            ),
        }
        about = {
            "source": corpus.name,
            "vocab_size": vocab_size,
            "tokenizer": tokenizer.digest,
            "parts": parts,
        }
        disk.replace(about_file, json.dumps(about, indent=1).encode() + b"\n")
    remedy = f"remove {stem.parent} and start the same command again, which writes it again"
    try:
        stored = documents.read_object(about_file)
        if (stored["vocab_size"], stored["tokenizer"]) != (vocab_size, tokenizer.digest):
            raise UserError(f"{about_file}: its tokens belong to another tokenizer; {remedy}")
        train_N, held_out_N = (
            _read(_file(stem, part), stored["parts"][part]) for part in ("train", "held-out")
        )
        characters = stored["parts"]["held-out"]["characters"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{about_file}: the token files are damaged ({_why(error)}); {remedy}") from error
    return Stream(corpus.name, corpus.share, train_N, held_out_N, characters / max(1, len(held_out_N)))


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename).name}: {error.strerror}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _file(stem: Path, part: str) -> Path:
    return stem.with_name(f"{stem.name}-{part}.bin")


def _write(
    texts: Iterable[str], tokenizer: Tokenizer, vocab_size: int, limit: int, file: Path
) -> dict[str, Any]:
    """Writes whole documents up to `limit` tokens; returns the file's entry in N.json."""
    dtype, digest = id_dtype(vocab_size), hashlib.sha256()
    tokens = characters = 0
    temporary = file.with_name(f".{file.name}{disk.TEMPORARY}")
    left = iter(texts)
    with disk.writing(file), open(temporary, "wb", opener=disk.own) as out:
        while tokens < limit and (batch := list(islice(left, _ENCODE_AT_ONCE))):
            for document, ids in zip(batch, tokenizer.encode_all(batch), strict=True):
                if tokenizer.eos_id is not None:
                    ids.append(tokenizer.eos_id)
                if max(ids, default=0) >= vocab_size:
                    raise UserError(
                        f"token {max(ids)} of {document[:40]!r} is beyond the model's vocabulary of "
                        f"{vocab_size}: tokenizer and model do not belong together"
                    )
                content = np.asarray(ids, dtype).tobytes()
                out.write(content)
                digest.update(content)
                tokens += len(ids)
                characters += len(document)
                if tokens >= limit:
                    break
    disk.adopt(temporary, file)
    return {"tokens": tokens, "characters": characters, "dtype": dtype.str, "sha256": digest.hexdigest()}


def _read(file: Path, about: Mapping[str, Any]) -> np.ndarray:
    """The ids [N] of a file. Raises ValueError if its digest differs from its entry."""
    with open(file, "rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != about["sha256"]:
            raise ValueError(f"wrong digest of {file.name}")
    if not about["tokens"]:
        return np.zeros(0, about["dtype"])
    return np.memmap(file, np.dtype(about["dtype"]), mode="r", shape=(about["tokens"],))


def require_windows(streams: Iterable[Stream], length: int) -> None:
    """Raises UserError if a part of a source has no window of `length` + 1 tokens."""
    for stream in streams:
        for part, tokens_N in (("training", stream.train), ("held-out", stream.held_out)):
            if len(tokens_N) <= length:
                raise UserError(
                    f"sources: the {part} part of {stream.name} has {len(tokens_N)} tokens, "
                    f"fewer than a window of {length} + 1; give more text, or lower max_positions"
                )


def training_windows(streams: list[Stream], seed: int, step: int, batch: int, length: int) -> np.ndarray:
    """The windows of a step, int32 [B, T + 1]: the arguments alone decide, so that a run can go on."""
    rng = np.random.default_rng([seed, step])
    shares = [stream.share for stream in streams]
    windows = []
    for index in rng.choice(len(streams), size=batch, p=shares):
        tokens_N = streams[index].train
        start = rng.integers(len(tokens_N) - length)
        windows.append(tokens_N[start : start + length + 1])
    return np.stack(windows).astype(np.int32)


def held_out_batches(stream: Stream, batch: int, length: int) -> Iterator[np.ndarray]:
    """The held-out tokens as windows that follow each other, int32 [B, T + 1]; a remainder is left out."""
    starts = range(0, len(stream.held_out) - length, length)
    endless = cycle(starts)  # a source smaller than a batch is repeated
    for _ in range(max(1, len(starts) // batch)):
        windows = [stream.held_out[start : start + length + 1] for start in islice(endless, batch)]
        yield np.stack(windows).astype(np.int32)
