"""Texts to cram: from files, directories, the Hub and the package itself, read one at a time."""

import csv
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from jaxcram import documents
from jaxcram.errors import UserError

BUNDLED_STORIES, BUNDLED_PASSAGES = 6, 2
_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?")
_STORIES = re.compile(r"stories(?::(.*))?", re.DOTALL)
MOST_CHARACTERS = 1 << 24  # of one text, and bytes of one line; the Bible has 4.5 million
_MOST_TEXTS = sys.maxsize // 2


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
            a .jsonl, .csv or .parquet file: the strings of `column`;
            a directory of .txt files, each one text, or of the other kinds, in order of their names;
            else the name of a Hub data set, optionally `name:config`.
            A file or directory with the name of a keyword is reached as `./stories`.
        num_samples: how many texts; None takes all of them.
        offset: how many texts to leave out first.
        split: the split of a Hub data set.
        column: the column of a table that holds the text.

    Raises:
        UserError: the source does not exist, cannot be read, or holds too few texts; a text is empty.
    """
    if num_samples is not None and num_samples < 1:
        raise UserError(f"--num_samples={num_samples}: at least 1 is needed")
    if offset < 0:
        raise UserError(f"--offset={offset}: it counts the texts to leave out, so 0 is the least")
    if max(offset, num_samples or 0) > _MOST_TEXTS:
        raise UserError(
            f"--num_samples={num_samples} --offset={offset}: no source has so many texts; lower it"
        )
    if spec == "stories" and num_samples is None:
        raise UserError("--texts=stories has no end; say --num_samples=N, or --texts=stories:N")
    stop = None if num_samples is None else offset + num_samples
    texts, seen = [], 0
    for seen, text in enumerate(islice(_source(spec, split, column), stop), start=1):
        if seen > offset:
            if not text or text.isspace():
                raise UserError(f"--texts={spec}: sample {seen - 1} is empty; remove it or skip it")
            texts.append(Text(seen - 1, text))
    if seen == 0:
        raise UserError(f"--texts={spec}: there is no text in it")
    if not texts:
        raise UserError(f"--offset={offset}: --texts={spec} holds only {seen} texts; lower the offset")
    if num_samples is not None and len(texts) < num_samples:
        after = f" after --offset={offset}" if offset else ""
        raise UserError(
            f"--num_samples={num_samples}: --texts={spec} holds only {len(texts)} texts{after}; lower it"
        )
    return texts


def is_keyword(spec: str) -> bool:
    """Whether a source is one of the package, not a file of the same name."""
    return spec in ("bundled", "passages") or _STORIES.fullmatch(spec) is not None


def kind_of(spec: str, sample_id: int) -> str:
    """What a text of a source is: "story", "prose" (the bundled ones), or "text"."""
    if _STORIES.fullmatch(spec) or (spec == "bundled" and sample_id < BUNDLED_STORIES):
        return "story"
    return "prose" if spec in ("bundled", "passages") else "text"


def _source(spec: str, split: str, column: str) -> Iterator[str]:
    path = os.path.expanduser(spec)  # not Path: it has no name for "", and too long ones are errors to it
    local: Iterator[str] | None = None
    if spec == "bundled":
        local = chain(islice(_held_out_stories(), BUNDLED_STORIES), islice(_passages(), BUNDLED_PASSAGES))
    elif spec == "passages":
        local = _passages()
    elif match := _STORIES.fullmatch(spec):
        if match[1] is not None and not re.fullmatch(r"[0-9]{1,9}", match[1]):
            raise UserError(f"--texts={spec}: a number is to follow stories:, as in stories:100")
        local = islice(_held_out_stories(), None if match[1] is None else int(match[1]))
    elif os.path.isdir(path):
        local = _directory(Path(path), column)
    elif os.path.exists(path):
        local = _file(Path(path), column)
    if local is None:
        return _hub(spec, split, column)
    if split != "train":
        raise UserError(f"--split={split}: only Hub data sets have splits, and --texts={spec} is none")
    return local


def _held_out_stories() -> Iterator[str]:
    from jaxcram.stories import HELD_OUT_SEED, stories

    for seed in count(HELD_OUT_SEED):
        yield from stories(seed, 1)


def _passages() -> Iterator[str]:
    return _paragraphs(Path(__file__).with_name("passages.txt"))


def _directory(directory: Path, column: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise UserError(
            f"--texts={directory}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    files = [directory / name for name in names if Path(name).suffix in _READERS and not name.startswith(".")]
    plain = [file for file in files if file.suffix == ".txt"]
    if not files:
        raise UserError(f"--texts={directory}: no {', '.join(_READERS)} file in it")
    if not plain:
        return chain.from_iterable(_file(file, column) for file in files)
    if len(plain) < len(files):
        other = next(file for file in files if file not in plain)
        raise UserError(
            f"--texts={directory}: both {plain[0].suffix} and {other.suffix} files in it; keep one kind"
        )
    return (_whole(file) for file in files)


def _file(path: Path, column: str) -> Iterator[str]:
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise UserError(f"--texts={path}: not one of {', '.join(_READERS)}; convert or rename it")
    return reader(path, column)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, line ends as \\n, read one at a time."""
    position = 0
    try:
        documents.require_file(path)
        with path.open("rb") as file:
            while line := file.readline(MOST_CHARACTERS + 1):
                size = len(line)
                if size > MOST_CHARACTERS:
                    raise UserError(
                        f"{path}: a line has more than {MOST_CHARACTERS} bytes; break it into lines"
                    )
                text = line.decode()
                del line  # or a long one would be in memory thrice
                text = text.replace("\r\n", "\n")
                yield text.removeprefix("\ufeff") if position == 0 else text
                position += size
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 (byte {position + error.start}); convert it, say with iconv -t UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _whole(path: Path) -> str:
    """All of a .txt file as one text."""
    text = _Growing(path)
    for line in _lines(path):
        text.add(line)
    return text.take()


def _paragraphs(path: Path, column: str = "") -> Iterator[str]:
    paragraph = _Growing(path)
    for line in chain(_lines(path), [""]):
        if line and not line.isspace():
            paragraph.add(line)
        elif text := paragraph.take():
            yield text


class _Growing:
    """A text put together from its lines, in a buffer: a list would cost fifty bytes a line."""

    def __init__(self, path: Path):
        self._path = path
        self._lines = io.StringIO()

    def add(self, line: str) -> None:
        if self._lines.tell() + len(line) > MOST_CHARACTERS:
            raise UserError(
                f"{self._path}: a text has more than {MOST_CHARACTERS} characters; "
                "divide it with blank lines, or into files"
            )
        self._lines.write(line)

    def take(self) -> str:
        """The text so far, without white space around it; the next one begins."""
        text = self._lines.getvalue().strip()
        self._lines = io.StringIO()
        return text


def _json_lines(path: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = documents.parse(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not valid JSON ({error}); mend it") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object; write one a line")
        yield _cell(row, column, f"{path}: line {number}")


def _csv(path: Path, column: str) -> Iterator[str]:
    csv.field_size_limit(MOST_CHARACTERS)  # the default would refuse a book
    rows = csv.DictReader(_lines(path), strict=True)
    try:
        _require(column, rows.fieldnames or [column], str(path))
        for row in rows:
            yield _cell(row, column, f"{path}: line {rows.line_num}")
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.reader.line_num} is not valid CSV ({error}); mend it") from error


def _parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        documents.require_file(path)
        with pq.ParquetFile(path) as file:
            _require(column, file.schema_arrow.names, str(path))
            kind = file.schema_arrow.field(column).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"{path}: column {column!r} holds {kind}, not text; mend it")
            number = 0
            for group in range(file.num_row_groups):  # or a batch would read into the next group
                for batch in file.iter_batches(batch_size=16, row_groups=[group], columns=[column]):
                    for row in batch.to_pylist():
                        yield _cell(row, column, f"{path}: row {number}")
                        number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as Parquet ({_first_line(error)}); write it again") from error


_READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _paragraphs,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _hub(spec: str, split: str, column: str) -> Iterator[str]:
    match = _HUB_NAME.fullmatch(spec)
    if match is None or Path(spec).suffix in _READERS:
        # It may be a text, where a path was wanted.
        shown = repr(spec) if len(spec) <= 200 else f"{spec[:80]!r}..."
        raise UserError(f"--texts={shown}: no such file or directory; check the path")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UserError(
            f"--texts={spec}: no such file, and Hub data sets need another package; pip install datasets"
        ) from error
    try:
        rows = load_dataset(match["name"], match["config"], split=split, streaming=True)
        for number, row in enumerate(rows):
            yield _cell(row, column, f"--texts={spec}: row {number}")
    except UserError:
        raise
    except Exception as error:  # unknown name or split, gated, offline: of many types
        raise UserError(
            f"--texts={spec}: no such file, nor a readable Hub data set with split {split!r} "
            f"({_first_line(error)}); check the name, the split and the network"
        ) from error


def _require(column: str, columns: Iterable[str], where: str) -> None:
    columns = list(map(str, columns))  # of a row of CSV that is too long, the rest has the name None
    if columns.count(column) > 1:
        raise UserError(f"{where}: {columns.count(column)} columns are named {column!r}; rename all but one")
    if column not in columns:
        raise UserError(f"{where}: no column {column!r}; it has {', '.join(columns) or 'none'}")


def _cell(row: dict[str, Any], column: str, where: str) -> str:
    _require(column, row, where)
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: column {column!r} holds {type(value).__name__}, not text; mend it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair (character {error.start}); mend it") from error
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
