"""Files of texts and tables, read one text or row at a time, compressed or not."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.text import characters

MOST_CHARACTERS = 1 << 24  # of one text; the Bible has 4.5 million
Row = tuple[str, Any]  # where it is, for messages; and its cells by column


def kind(name: str) -> str | None:
    """The format of a file by its name, one of `KINDS`; None if it is not supported."""
    path = Path(name.lower())
    if path.suffix in characters.COMPRESSIONS:
        path = path.with_suffix("")
        if path.suffix == ".parquet":  # reading starts at the end of the file
            return None
    return path.suffix if path.suffix in KINDS else None


def texts(path: Path, column: str) -> Iterator[str]:
    """Yields the texts of a file; in a table they are in `column`.

    Raises:
        UserError: the file cannot be read, or does not have the format of its name; names the line or row.
    """
    suffix = kind(path.name) or ""
    if suffix == ".txt":
        yield from paragraphs(path)
        return
    if suffix == ".parquet":
        _require_strings(path, column)
    for where, row in TABLES[suffix](path, [column]):
        # .json may be an array of texts.
        yield characters.valid(row, where) if isinstance(row, str) else cell(row, column, where)


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a table, with at least these columns; each after where it is, for messages.

    Raises:
        UserError: as `texts`, or the file is not a table, or has no such column.
    """
    suffix = kind(path.name)
    if suffix not in TABLES:
        raise UserError(f"{path}: not a table ({', '.join(TABLES)}); convert or rename it")
    for where, row in TABLES[suffix](path, columns):
        if isinstance(row, str):
            raise UserError(f"{where} is a string, not an object with columns; write an array of objects")
        for column in columns:
            require(column, row, where)
        yield where, row


def whole(path: Path) -> str:
    """A .txt file as one text."""
    text = _Growing(path)
    for line in characters.lines(path):
        text.add(line)
    return text.take()


def paragraphs(path: Path) -> Iterator[str]:
    """Yields the paragraphs of a .txt file, separated by blank lines."""
    paragraph = _Growing(path)
    for line in chain(characters.lines(path), [""]):
        if line and not line.isspace():
            paragraph.add(line)
        elif text := paragraph.take():
            yield text


def cell(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text of a row, "" if it is null. Raises UserError if the column is missing or is not text."""
    require(column, row, where)
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: column {column!r} holds {type(value).__name__}, not text; correct it")
    return characters.valid(value, where)


class _Growing:
    """A text assembled from lines in a buffer, since a list would take 50 more bytes per line."""

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
        """Returns the text without surrounding white space, and starts the next one."""
        text = self._lines.getvalue().strip()
        self._lines = io.StringIO()
        return text


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(characters.lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = documents.parse(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not valid JSON ({error}); correct it") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object; write one per line")
        yield f"{path}: line {number}", row


def _json(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """An array of objects or of strings, one object, or a sequence of values."""
    values = documents.rows(characters.pieces(path), MOST_CHARACTERS)
    for number in count():
        where = f"{path}: row {number}"
        try:
            row = next(values)
        except StopIteration:
            return
        except ValueError as error:
            raise UserError(f"{where} is not valid JSON ({error}); correct it") from error
        if not isinstance(row, str | dict):
            raise UserError(f"{where} is neither a JSON object nor a string; write an array of either")
        yield where, row


def _csv(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(MOST_CHARACTERS)  # the default is too small for a book
    reader = csv.reader(characters.lines(path), strict=True, delimiter=delimiter)
    header: list[str] = []
    try:
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if not row or (len(header) > 1 and len(row) == 1 and not row[0].strip()):
                continue  # a blank line
            if not header:
                for column in columns:
                    _require_delimiter(column, row, delimiter, path)
                    require(column, row, str(path))
                header = row
                continue
            if len(row) != len(header):
                cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                raise UserError(
                    f"{path}: line {line} has {cells}, but the header has {len(header)}; "
                    f'write every cell, and quote those that contain {delimiter!r} ("...")'
                )
            yield f"{path}: line {line}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not valid CSV ({error}); correct it") from error


def _tsv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    return _csv(path, columns, "\t")


def _require_delimiter(column: str, header: list[str], delimiter: str, path: Path) -> None:
    """Refuses a table whose delimiter is not that of its file name."""
    for other in (",", "\t", ";", "|"):
        if (
            other != delimiter
            and len(header) == 1
            and other in header[0]
            and column in header[0].split(other)
        ):
            raise UserError(
                f"{path}: its cells are separated by {other!r}, not by {delimiter!r}; "
                "convert it, or name it .csv for commas and .tsv for tabs"
            )


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with _parquet_file(path, columns) as file:
        number = 0
        for group in range(file.num_row_groups):  # else a batch may span two groups and load both
            for batch in file.iter_batches(batch_size=16, row_groups=[group], columns=list(columns)):
                for row in batch.to_pylist():
                    yield f"{path}: row {number}", row
                    number += 1


@contextmanager
def _parquet_file(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """An open file that has these columns; any error is raised as a UserError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        documents.require_file(path)
        # An open file, since Arrow may take a path for a URI.
        with path.open("rb") as stored, pq.ParquetFile(stored) as file:
            for column in columns:
                require(column, file.schema_arrow.names, str(path))
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not readable as Parquet ({characters.first_line(error)}); write it again"
        ) from error


def _require_strings(path: Path, column: str) -> None:
    """Refuses a Parquet file whose column is not text, even if it has no row."""
    with _parquet_file(path, [column]) as file:
        stored_as = file.schema_arrow.field(column).type
        if not _is_string(stored_as):
            raise UserError(f"{path}: column {column!r} holds {stored_as}, not text; correct it")


def _is_string(arrow_type: Any) -> bool:
    """Whether values of an Arrow type are text, in any layout."""
    from pyarrow import types

    if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
        return _is_string(arrow_type.value_type)
    layouts = types.is_string, types.is_large_string, types.is_string_view
    return any(is_layout(arrow_type) for is_layout in layouts)


def require(column: str, columns: Iterable[str], where: str) -> None:
    """Raises UserError unless exactly one column has this name."""
    columns = list(map(str, columns))
    if columns.count(column) > 1:
        raise UserError(f"{where}: {columns.count(column)} columns are named {column!r}; rename all but one")
    if column not in columns:
        raise UserError(f"{where}: no column {column!r}; it has {', '.join(columns) or 'none'}")


TABLES: dict[str, Callable[[Path, Sequence[str]], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
KINDS = (".txt", *TABLES)
