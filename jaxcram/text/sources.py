"""Sources of texts: files, directories, the Hub and the package itself."""

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
from jaxcram.text import characters, readers, tables

BUNDLED_STORIES, BUNDLED_PASSAGES = 6, 2
_STORIES = re.compile(r"stories(?::(.*))?", re.DOTALL)
_MOST_TEXTS = sys.maxsize // 2
_MOST_NAMED = 10  # ignored files named in the warning
# Files of Hub data sets that are not tables.
_METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}

_LOGGER = logging.getLogger("jaxcram.texts")


@dataclass(frozen=True, slots=True)
class Text:
    """One text; `sample_id` is its index in the whole source, regardless of the offset."""

    sample_id: int
    text: str


@dataclass(frozen=True)
class TextSettings:
    """Which texts are crammed.

    Attributes:
        texts: a source; see `load_texts`.
        split: of a Hub data set.
        column: of a table.
        num_samples: number of texts; None for all.
        offset: number of texts to skip at the beginning.
        max_tokens: tokens to keep of each text, including BOS; None keeps all.
        bos: whether to begin with BOS; None follows the tokenizer.
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
    """Reads texts; no more of the source is read than needed.

    Args:
        spec: one of
            `bundled`: six held-out stories and two prose passages of the package;
            `stories:COUNT`: COUNT held-out stories of the generator; `stories` has no end;
            `passages`: the prose passages of the package;
            a .txt file: its paragraphs, separated by blank lines;
            a .jsonl (.ndjson), .json, .csv, .tsv or .parquet file: the strings of `column`; .json is an array
            of objects or of strings, or one object;
            a directory: its files and those of its subdirectories, in order of their relative paths: either
            all .txt, one text each, or all tables. Hidden files are ignored, and a warning names files of
            other formats. A directory with both .txt files and tables is refused as ambiguous;
            else the name of a Hub data set, optionally `name:config`.
            Write `./stories` for a file or directory with the name of a keyword. Files other than .parquet
            may be compressed (suffix .gz, .bz2, .xz or .zst). Suffixes may be in upper case.
        num_samples: number of texts; None reads all.
        offset: number of texts to skip at the beginning.
        split: of a Hub data set.
        column: of a table, with the texts.

    Raises:
        UserError: the source does not exist, cannot be read, or holds too few texts; a text is empty; a row
            of a table has more or fewer cells than its header.
    """
    if num_samples is not None and num_samples < 1:
        raise UserError(f"num_samples={num_samples} must be at least 1")
    if offset < 0:
        raise UserError(f"offset={offset} must be 0 or greater")
    if max(offset, num_samples or 0) > _MOST_TEXTS:
        raise UserError(f"num_samples={num_samples} offset={offset}: no source has so many texts; lower it")
    if spec == "stories" and num_samples is None:
        raise UserError("texts=stories has no end; give num_samples=N, or texts=stories:N")
    stop = None if num_samples is None else offset + num_samples
    texts, seen = [], 0
    for seen, text in enumerate(islice(each_text(spec, split, column), stop), start=1):
        if seen > offset:
            if not text or text.isspace():
                raise UserError(f"texts={spec}: sample {seen - 1} is empty; remove it or skip it")
            texts.append(Text(seen - 1, text))
    if seen == 0:
        raise UserError(f"texts={spec} has no text; give another source")
    if not texts:
        raise UserError(f"offset={offset}: texts={spec} holds only {_texts(seen)}; lower the offset")
    if num_samples is not None and len(texts) < num_samples:
        after = f" after offset={offset}" if offset else ""
        raise UserError(
            f"num_samples={num_samples}: texts={spec} holds only {_texts(len(texts))}{after}; lower it"
        )
    return texts


def is_keyword(spec: str) -> bool:
    """Whether a source is a keyword for texts of the package."""
    return spec in ("bundled", "passages") or _STORIES.fullmatch(spec) is not None


def given_texts(given: Iterable[str]) -> tuple[TextSettings, list[Text]]:
    """Texts passed from Python (a list, an array or a generator), and settings whose source is their digest.

    Raises:
        UserError: `given` is not a sequence of texts or is empty, or a text is empty or not valid Unicode.
    """
    ordered = isinstance(given, Iterable) and not isinstance(given, Mapping | Set)
    if not ordered or getattr(given, "ndim", 1) != 1:  # a data frame would give the names of its columns
        raise UserError(
            f"texts: {type(given).__name__} is neither a source nor a list of texts; "
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
    """The kind of a text: "story", "prose" (both of the package), or "text"."""
    if _STORIES.fullmatch(spec) or (spec == "bundled" and sample_id < BUNDLED_STORIES):
        return "story"
    return "prose" if spec in ("bundled", "passages") else "text"


def _texts(number: int) -> str:
    return "1 text" if number == 1 else f"{number} texts"


def each_text(spec: str, split: str = "train", column: str = "text") -> Iterator[str]:
    """The texts of a source, empty ones too, read as they are asked for; the arguments of `load_texts`.

    Raises:
        UserError: as `load_texts`, where the reason is not how many texts there are.
    """
    ours: Iterator[str]
    if spec == "bundled":
        ours = chain(islice(_held_out_stories(), BUNDLED_STORIES), islice(_passages(), BUNDLED_PASSAGES))
    elif spec == "passages":
        ours = _passages()
    elif match := _STORIES.fullmatch(spec):
        if match[1] is not None and not re.fullmatch(r"[0-9]{1,9}", match[1]):
            raise UserError(f"texts={spec}: write a number after stories:, as in stories:100")
        ours = islice(_held_out_stories(), None if match[1] is None else int(match[1]))
    elif path := hub.local("texts", spec):
        ours = _directory(path, column) if path.is_dir() else _file(path, column)
    else:
        return _hub(spec, split, column)
    if split != "train":
        raise UserError(f"split={split}: only Hub data sets have splits; texts={spec} is not one")
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
            f"({', '.join(characters.COMPRESSIONS)}; not .parquet); convert or rename it"
        )
    return readers.texts(path, column)


def _directory(directory: Path, column: str) -> Iterator[str]:
    read: list[Path] = []
    ignored: list[Path] = []
    for file in sorted(_walk(directory), key=lambda file: file.relative_to(directory).as_posix()):
        known = readers.kind(file.name) is not None and file.name not in _METADATA
        (read if known else ignored).append(file)
    plain = [file for file in read if readers.kind(file.name) == ".txt"]
    if not read:
        other = f"; it has {_named(ignored, directory)}" if ignored else ""
        raise UserError(f"texts={directory}: no {', '.join(readers.KINDS)} file in it{other}")
    if plain and len(plain) < len(read):
        table = next(file for file in read if file not in plain)
        raise UserError(
            f"texts={directory}: has both .txt files and tables ({_named([plain[0], table], directory)}); "
            "keep only one kind"
        )
    if ignored:
        _LOGGER.warning(
            "texts=%s: %d of its files are ignored: %s",
            printable(str(directory)),
            len(ignored),
            printable(_named(ignored, directory)),
        )
    if plain:
        return map(readers.whole, read)
    return chain.from_iterable(readers.texts(file, column) for file in read)


def _walk(directory: Path) -> Iterator[Path]:
    """Yields every file below a directory that is not hidden; a directory linked twice is visited once."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"texts={error.filename}: cannot be read ({error.strerror}); check its permissions"
        ) from error

    seen = set()
    for folder, directories, files in os.walk(directory, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            directories.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def _named(files: list[Path], directory: Path) -> str:
    names = [str(file.relative_to(directory)) for file in files[:_MOST_NAMED]]
    return ", ".join(names + [f"and {len(files) - _MOST_NAMED} more"] * (len(files) > _MOST_NAMED))


def _hub(spec: str, split: str, column: str) -> Iterator[str]:
    if not tables.is_hub_name(spec):
        # Shortened, since it may be a text given instead of a path.
        shown = repr(spec) if len(spec) <= 200 else f"{spec[:80]!r}..."
        raise UserError(f"texts={shown}: no such file or directory; check the path")
    for where, row in tables.hub_rows("texts", spec, split):
        yield readers.cell(row, column, where)
