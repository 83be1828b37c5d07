"""What is trained on: the sources of a mixture as documents, a part of each held out."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice

import numpy as np

from jaxcram.errors import UserError
from jaxcram.text.sources import each_text
from jaxcram.text.stories import HELD_OUT_SEED, stories
from jaxcram.train.settings import HUB, PretrainSettings, is_hub, parse_mixture

DOCUMENT_CHARACTERS = 1000  # longer texts are cut, at the next end of a line
_STORIES_DIGESTED = 64  # they have no end, and tell one version of the generator from another


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents of one source, split in two; the iterables start anew each time.

    Attributes:
        name: as in the mixture.
        share: of the windows, 0 to 1.
        digest: of its texts.
        train, held_out: its documents.
    """

    name: str
    share: float
    digest: str
    train: Iterable[str]
    held_out: Iterable[str]


class Stories:
    """The generator's stories from a seed on, without end."""

    def __init__(self, first_seed: int):
        self.first_seed = first_seed

    def __iter__(self) -> Iterator[str]:
        for seed in count(self.first_seed):
            yield from stories(seed, 1)


def open_corpora(settings: PretrainSettings) -> list[Corpus]:
    """The sources of the mixture. Raises UserError for one that cannot be read or is too small to split."""
    return [_open(name, share, settings) for name, share in parse_mixture(settings.sources).items()]


def _open(name: str, share: float, settings: PretrainSettings) -> Corpus:
    if name == "stories":
        train, held_out = Stories(0), Stories(HELD_OUT_SEED)
        first = chain(*(islice(part, _STORIES_DIGESTED) for part in (train, held_out)))
        return Corpus(name, share, _digest(first), train, held_out)
    most = settings.hub_texts if is_hub(name) else None
    try:
        texts = list(islice(each_text(name.removeprefix(HUB)), most))
    except UserError as error:
        raise UserError(f"sources: {error}") from error
    parts = _split(texts, settings.held_out_share, settings.seed)
    if not all(parts):
        raise UserError(f"sources: {name} is too small to hold a part of it out; give more text")
    return Corpus(name, share, _digest(texts), *parts)


def _digest(texts: Iterable[str]) -> str:
    """16 hexadecimal digits of SHA-256 over texts, their order and their bounds."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()[:16]


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
