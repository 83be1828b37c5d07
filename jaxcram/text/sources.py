"""Texts to cram: from files, directories, the Hub and the package itself, read one at a time."""

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

from jaxcram import hub
from jaxcram.errors import UserError, printable
from jaxcram.text import characters, readers

BUNDLED_STORIES, BUNDLED_PASSAGES = 6, 2
_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?")
_STORIES = re.compile(r"stories(?::(.*))?", re.DOTALL)
_MOST_TEXTS = sys.maxsize // 2
_MOST_NAMED = 10  # of the files that are not read
# What the Hub's data sets have beside their tables.
_METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}

_LOGGER = logging.getLogger("jaxcram.texts")


@dataclass(frozen=True, slots=True)
class Text:
    """One text; `sample_id` is its index in the whole source, whatever the offset."""

    sample_id: int
    text: str


@dataclass(frozen=True)
class TextSettings:
    """Which texts are crammed.

    Attributes:
        texts: a source as `load_texts` takes it.
        split, column: of a Hub data set, and of a table.
        num_samples: how many texts, None for all; offset: texts to leave out first.
        max_tokens: tokens kept of each text, BOS included; None keeps all.
        bos: begin with BOS; None as the tokenizer says.
    """

    texts: str = "bundled"
    split: str = "train"
    column: str = "text"
    num_samples: int | None = None
    offset: int = 0
    max_tokens: int | None = None
    bos: bool | None = None


def load_texts(
    spec: str, *, num_samples: int | None, offset: int = 0, split: str = "train", column: str = "text"
) -> list[Text]:
    """Reads texts, and no more of the source than it takes.

    Args:
        spec: one of
            `bundled`: six held-out stories and two prose passages of the package;
            `stories`, `stories:COUNT`: held-out stories of the generator, without end or COUNT of them;
            `passages`: the prose passages of the package;
            a .txt file: its paragraphs, which blank lines separate;
            a .jsonl (.ndjson), .json, .csv, .tsv or .parquet file: the strings of `column`; .json is an array
            of objects or of strings, or one object;
            a directory: its files and those of its subdirectories, in order of their relative paths, either
            all of them .txt, each one text, or all of them tables; hidden files are left out, and a warning
            names the files of other kinds. A directory with both kinds is refused: what is a text in it, and
            what is about the texts, only its owner knows;
            else the name of a Hub data set, optionally `name:config`.
            A file or directory with the name of a keyword is reached as `./stories`. Files may be compressed
            (.gz, .bz2, .xz or .zst after the suffix; not .parquet), and suffixes in capitals.
        num_samples: how many texts; None takes all of them.
        offset: how many texts to leave out first.
        split: the split of a Hub data set.
        column: the column of a table that holds the text.

    Raises:
        UserError: the source does not exist, cannot be read, or holds too few texts; a text is empty; a row
            of a table has more or fewer cells than its header.
    """
    if num_samples is not None and num_samples < 1:
        raise UserError(f"num_samples={num_samples}: at least 1 is needed")
    if offset < 0:
        raise UserError(f"offset={offset}: it counts the texts to leave out, so 0 is the least")
    if max(offset, num_samples or 0) > _MOST_TEXTS:
        raise UserError(f"num_samples={num_samples} offset={offset}: no source has so many texts; lower it")
    if spec == "stories" and num_samples is None:
        raise UserError("texts=stories has no end; say num_samples=N, or texts=stories:N")
    stop = None if num_samples is None else offset + num_samples
    texts, seen = [], 0
    for seen, text in enumerate(islice(_source(spec, split, column), stop), start=1):
        if seen > offset:
            if not text or text.isspace():
                raise UserError(f"texts={spec}: sample {seen - 1} is empty; remove it or skip it")
            texts.append(Text(seen - 1, text))
    if seen == 0:
        raise UserError(f"texts={spec}: there is no text in it")
    if not texts:
        raise UserError(f"offset={offset}: texts={spec} holds only {_texts(seen)}; lower the offset")
    if num_samples is not None and len(texts) < num_samples:
        after = f" after offset={offset}" if offset else ""
        raise UserError(
            f"num_samples={num_samples}: texts={spec} holds only {_texts(len(texts))}{after}; lower it"
        )
    return texts


def is_keyword(spec: str) -> bool:
    """Whether a source is one of the package, not a file of the same name."""
    return spec in ("bundled", "passages") or _STORIES.fullmatch(spec) is not None


def given_texts(given: Iterable[str]) -> tuple[TextSettings, list[Text]]:
    """Texts that a program hands over (a list, an array, a generator), and the source that stands for them.

    Raises:
        UserError: there is none, one is no string, no Unicode or empty, or `given` is nothing of the kind.
    """
    ordered = isinstance(given, Iterable) and not isinstance(given, Mapping | Set)
    if not ordered or getattr(given, "ndim", 1) != 1:  # a data frame would give the names of its columns
        raise UserError(
            f"texts: neither a source nor a list of texts, but {type(given).__name__}; "
            'give "bundled", a path, or a list of strings'
        )
    texts = []
    for number, text in enumerate(given):
        if not isinstance(text, str) or not text or text.isspace():
            raise UserError(
                f"texts: entry {number} is {repr(text)[:80]}, not a text; remove it, or give a string"
            )
        characters.valid(text, f"texts: entry {number}")
        texts.append(Text(number, str(text)))
    if not texts:
        raise UserError("texts: the list is empty; give at least one text")
    digest = hashlib.sha256("\0".join(text.text for text in texts).encode()).hexdigest()[:16]
    return TextSettings(texts=f"given:{digest}"), texts


def kind_of(spec: str, sample_id: int) -> str:
    """What a text of a source is: "story", "prose" (the bundled ones), or "text"."""
    if _STORIES.fullmatch(spec) or (spec == "bundled" and sample_id < BUNDLED_STORIES):
        return "story"
    return "prose" if spec in ("bundled", "passages") else "text"


def _texts(number: int) -> str:
    return "1 text" if number == 1 else f"{number} texts"


def _source(spec: str, split: str, column: str) -> Iterator[str]:
    ours: Iterator[str]
    if spec == "bundled":
        ours = chain(islice(_held_out_stories(), BUNDLED_STORIES), islice(_passages(), BUNDLED_PASSAGES))
    elif spec == "passages":
        ours = _passages()
    elif match := _STORIES.fullmatch(spec):
        if match[1] is not None and not re.fullmatch(r"[0-9]{1,9}", match[1]):
            raise UserError(f"texts={spec}: a number is to follow stories:, as in stories:100")
        ours = islice(_held_out_stories(), None if match[1] is None else int(match[1]))
    elif path := hub.local("texts", spec):
        ours = _directory(path, column) if path.is_dir() else _file(path, column)
    else:
        return _hub(spec, split, column)
    if split != "train":
        raise UserError(f"split={split}: only Hub data sets have splits, and texts={spec} is none")
    return ours


def _held_out_stories() -> Iterator[str]:
    from jaxcram.text.stories import HELD_OUT_SEED, stories

    for seed in count(HELD_OUT_SEED):
        yield from stories(seed, 1)


def _passages() -> Iterator[str]:
    return readers.paragraphs(Path(__file__).with_name("passages.txt"))


def _file(path: Path, column: str) -> Iterator[str]:
    if readers.kind(path.name) is None:
        raise UserError(
            f"texts={path}: not one of {', '.join(readers.KINDS)}, nor one of these compressed "
            f"({', '.join(characters.COMPRESSIONS)}; .parquet is not to be); convert or rename it"
        )
    return readers.texts(path, column)


def _directory(directory: Path, column: str) -> Iterator[str]:
    read: list[Path] = []
    passed_over: list[Path] = []
    for file in sorted(_walk(directory), key=lambda file: file.relative_to(directory).as_posix()):
        known = readers.kind(file.name) is not None and file.name not in _METADATA
        (read if known else passed_over).append(file)
    plain = [file for file in read if readers.kind(file.name) == ".txt"]
    if not read:
        other = f"; it has {_named(passed_over, directory)}" if passed_over else ""
        raise UserError(f"texts={directory}: no {', '.join(readers.KINDS)} file in it{other}")
    if plain and len(plain) < len(read):
        table = next(file for file in read if file not in plain)
        raise UserError(
            f"texts={directory}: both .txt files and tables in it ({_named([plain[0], table], directory)}); "
            "keep one kind"
        )
    if passed_over:
        _LOGGER.warning(
            "texts=%s: %d of its files are not read: %s",
            printable(str(directory)),
            len(passed_over),
            printable(_named(passed_over, directory)),
        )
    if plain:
        return map(readers.whole, read)
    return chain.from_iterable(readers.texts(file, column) for file in read)


def _walk(directory: Path) -> Iterator[Path]:
    """Every file below a directory that is not hidden; a directory that links reach twice is read once."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"texts={error.filename}: cannot be read ({error.strerror}); check its permissions"
        ) from error

    seen = set()
    for place, directories, files in os.walk(directory, onerror=refuse, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            directories.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _named(files: list[Path], directory: Path) -> str:
    names = [str(file.relative_to(directory)) for file in files[:_MOST_NAMED]]
    return ", ".join(names + [f"and {len(files) - _MOST_NAMED} more"] * (len(files) > _MOST_NAMED))


def _hub(spec: str, split: str, column: str) -> Iterator[str]:
    match = _HUB_NAME.fullmatch(spec)
    if match is None or hub.is_path(spec) or readers.kind(spec) is not None:
        # It may be a text, where a path was wanted.
        shown = repr(spec) if len(spec) <= 200 else f"{spec[:80]!r}..."
        raise UserError(f"texts={shown}: no such file or directory; check the path")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UserError(
            f"texts={spec}: no such file, and Hub data sets need another package; pip install datasets"
        ) from error
    hub.require_data_set(match["name"])
    try:
        rows = load_dataset(match["name"], match["config"], split=split, streaming=True)
        for number, row in enumerate(rows):
            yield readers.cell(row, column, f"texts={spec}: row {number}")
    except UserError:
        raise
    except Exception as error:  # unknown name or split, gated, offline: of many types
        raise UserError(
            f"texts={spec}: no such file, nor a readable Hub data set with split {split!r} "
            f"({characters.first_line(error)}); check the name, the split and the network"
        ) from error
