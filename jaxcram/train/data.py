"""From texts to windows of tokens: the tokenizer, the token files and the draw of windows.

A source becomes two files of uint16 tokens, one to train on and one held out: its documents, one after the
other, each between BOS and EOS. Windows are cut from them anywhere, with no mask between documents, so that
any token may stand at position 0 and the model learns to read what stands there: a crammed embedding will.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from jaxcram.errors import UserError
from jaxcram.text.sources import load_texts
from jaxcram.text.stories import HELD_OUT_SEED, stories
from jaxcram.train.settings import PretrainSettings, parse_mixture

BOS, EOS = "<s>", "</s>"
DOCUMENT_CHARACTERS = 1000  # longer texts are cut, at the next end of a line
_SAMPLE_CHARACTERS = 4_000_000  # what the tokenizer is trained on
_ENCODE_AT_ONCE = 512  # documents


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents of one source, split in two; the iterators start anew each time."""

    name: str
    share: float
    train: Iterable[str]
    held_out: Iterable[str]


@dataclasses.dataclass(frozen=True)
class Stream:
    """The tokens of one source.

    Attributes:
        name: as in the mixture.
        share: of the windows, 0 to 1.
        train: uint16 [N], mapped from its file.
        held_out: uint16 [N].
        characters_per_token: of the held-out part, BOS and EOS counted as tokens.
    """

    name: str
    share: float
    train: np.ndarray
    held_out: np.ndarray
    characters_per_token: float


class Stories:
    """The generator's stories from a seed on, without end."""

    def __init__(self, first_seed: int):
        self.first_seed = first_seed

    def __iter__(self) -> Iterator[str]:
        for seed in count(self.first_seed):
            yield from stories(seed, 1)


def open_corpora(settings: PretrainSettings) -> list[Corpus]:
    """The sources of the mixture. Raises UserError for one that cannot be read or is too small to split."""
    corpora = []
    for name, share in parse_mixture(settings.sources).items():
        if name == "stories":
            corpora.append(Corpus(name, share, Stories(0), Stories(HELD_OUT_SEED)))
            continue
        hub = name.removeprefix("hub:") if name.startswith("hub:") else None
        texts = [
            text.text for text in load_texts(hub or name, num_samples=settings.hub_texts if hub else None)
        ]
        train, held_out = _split(texts, settings.held_out_share, settings.seed)
        if not train or not held_out:
            raise UserError(f"--sources: {name} is too small to hold a part of it out; give more text")
        corpora.append(Corpus(name, share, train, held_out))
    return corpora


def _split(texts: list[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Documents to train on and documents held out; whole texts are held out where there are several."""
    if len(texts) == 1:
        documents = list(_documents(texts[0]))
        kept = len(documents) - max(1, round(share * len(documents)))
        return documents[:kept], documents[kept:]
    out = set(
        np.random.default_rng(seed).permutation(len(texts))[: max(1, round(share * len(texts)))].tolist()
    )
    parts: tuple[list[str], list[str]] = ([], [])
    for index, text in enumerate(texts):
        parts[index in out].extend(_documents(text))
    return parts


def _documents(text: str) -> Iterator[str]:
    """Whole lines, as many as it takes to reach DOCUMENT_CHARACTERS."""
    lines: list[str] = []
    size = 0
    for line in filter(None, map(str.strip, text.splitlines())):
        lines.append(line)
        size += len(line)
        if size >= DOCUMENT_CHARACTERS:
            yield "\n".join(lines)
            lines, size = [], 0
    if lines:
        yield "\n".join(lines)


def train_tokenizer(corpora: list[Corpus], vocab_size: int) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) on a sample of the mixture.

    It begins every text with BOS, as the tokenizers of the Llama family do.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_sample(corpora), trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"--vocab_size={vocab_size}: the texts give only {tokenizer.get_vocab_size()} tokens; lower it"
        )
    return tokenizer


def _tokenizer_sample(corpora: list[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        left = int(corpus.share * _SAMPLE_CHARACTERS)
        for document in corpus.train:
            yield document
            left -= len(document)
            if left <= 0:
                break


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, for transformers and for `load_tokenizer`."""
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    text = json.dumps(config | {"clean_up_tokenization_spaces": False}, indent=2)
    (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def write_stream(corpus: Corpus, tokenizer: Tokenizer, settings: PretrainSettings, stem: Path) -> Stream:
    """Tokenises a source into STEM-train.bin and STEM-held-out.bin, or finds them there."""
    about_file = stem.with_name(f"{stem.name}.json")
    train_file = stem.with_name(f"{stem.name}-train.bin")
    held_out_file = stem.with_name(f"{stem.name}-held-out.bin")
    if not about_file.is_file():  # it is written last
        _write_tokens(corpus.train, tokenizer, settings.stream_tokens, train_file)
        characters = _write_tokens(corpus.held_out, tokenizer, settings.held_out_tokens, held_out_file)
        about_file.write_text(json.dumps({"source": corpus.name, "held_out_characters": characters}))
    train_N, held_out_N = (np.memmap(file, np.uint16, mode="r") for file in (train_file, held_out_file))
    for part, tokens_N in (("training", train_N), ("held-out", held_out_N)):
        if len(tokens_N) <= settings.max_positions:
            raise UserError(
                f"--sources: the {part} part of {corpus.name} has {len(tokens_N)} tokens, "
                f"fewer than a window of {settings.max_positions} + 1; give more text or a smaller --window"
            )
    characters = json.loads(about_file.read_text())["held_out_characters"]
    return Stream(corpus.name, corpus.share, train_N, held_out_N, characters / len(held_out_N))


def _write_tokens(documents: Iterable[str], tokenizer: Tokenizer, limit: int, file: Path) -> int:
    """Writes at most about `limit` tokens, whole documents; returns how many characters they stand for."""
    eos = tokenizer.token_to_id(EOS)
    tokens = characters = 0
    with file.open("wb") as out:
        left = iter(documents)
        while batch := list(islice(left, _ENCODE_AT_ONCE)):
            for document, encoding in zip(batch, tokenizer.encode_batch(batch), strict=True):
                np.asarray([*encoding.ids, eos], np.uint16).tofile(out)
                tokens += len(encoding.ids) + 1
                characters += len(document)
                if tokens >= limit:
                    return characters
    return characters


def training_windows(streams: list[Stream], settings: PretrainSettings, step: int) -> np.ndarray:
    """The windows of a step, int32 [B, T + 1]: settings and step alone decide, so that a run can continue."""
    rng = np.random.default_rng([settings.seed, step])
    batch, length = settings.shape_at(step)
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
