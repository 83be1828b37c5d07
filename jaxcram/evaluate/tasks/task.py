"""What a task is: where its rows come from, and how a row becomes an item."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.text import readers


@dataclasses.dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: index of its row in the source, regardless of which items are taken.
        context: what is crammed, and read before an ending.
        endings: the choices, without the space that joins them to the context.
        label: index of the right ending.
        subject: which part of the task it belongs to; None if the task has no parts.
        shots: solved questions, for generation; they end where the context begins. "" if there are none.
        shots_id: index of the first one's row in their source: the same for all items that have these shots.
    """

    id: int
    context: str
    endings: tuple[str, ...]
    label: int
    subject: str | None = None
    shots: str = ""
    shots_id: int | None = None

    @property
    def prompt(self) -> str:
        """The text after which the answer is generated: the shots, then the context."""
        return self.shots + self.context


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table, whose cells are checked when they are read.

    Attributes:
        where: file and row, for messages.
        cells: values by column; those of CSV are text, in which lists and objects are written as JSON.
    """

    where: str
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A text that is not blank."""
        text = readers.cell(self.cells, column, self.where)
        if not text or text.isspace():
            self.refuse(f"column {column!r} is empty")
        return text

    def texts(self, column: str) -> tuple[str, ...]:
        """A list of at least two texts, none of them blank."""
        return self._texts(column, self._parsed(column))

    def texts_within(self, column: str, key: str) -> tuple[str, ...]:
        """The list of texts at a key of an object, as `texts`."""
        value = self._parsed(column)
        if not isinstance(value, dict) or key not in value:
            self.refuse(f"column {column!r} is not an object with {key!r}")
        return self._texts(f"{column}.{key}", value[key])

    def index(self, column: str, count: int) -> int:
        """A number from 0, below `count`: a number, or digits as text."""
        value = self.cells[column]
        digits = isinstance(value, str) and value.isdecimal() and len(value) < 20
        number = int(value) if digits else value
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
            self._refuse_label(column, value, f"a number from 0 to {count - 1}")
        return number

    def position(self, column: str, names: Sequence[str]) -> int:
        """Which of the names the column holds."""
        value = self.cells[column]
        name = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if name not in names or list(names).count(name) > 1:
            self._refuse_label(column, value, f"one of {', '.join(names)}")
        return names.index(name)

    def refuse(self, what: str) -> NoReturn:
        """Raises UserError: what is wrong with the row."""
        raise UserError(f"{self.where}: {what}; correct it, or remove the row")

    def _refuse_label(self, column: str, value: Any, wanted: str) -> NoReturn:
        what = "is empty" if value is None or value == "" else f"is {value!r:.60}"
        self.refuse(f"column {column!r} {what}, not {wanted}")

    def _parsed(self, column: str) -> Any:
        value = self.cells[column]
        if not isinstance(value, str):
            return value
        try:
            return documents.parse(value)
        except ValueError as error:
            raise UserError(
                f"{self.where}: column {column!r} is text that is not JSON ({error}); write lists as JSON"
            ) from error

    def _texts(self, name: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) < 2:
            self.refuse(f"column {name!r} is not a list of at least two texts")
        return tuple(Row(self.where, {f"{name}[{i}]": x}).text(f"{name}[{i}]") for i, x in enumerate(value))


@dataclasses.dataclass(frozen=True)
class Task:
    """Items of one kind.

    Attributes:
        name: what a person calls it.
        columns: what every row must have; it may have more.
        item: makes an item of a row and its number.
        source: a Hub data set (`name:config`), or a file of the package; what is read if no other is given.
        split: of the Hub data set.
        shot: an item as a solved question; None if the task has no shots.
        preamble: what the shots of a subject begin with.
        shots_split: the split of the Hub data set that the shots come from.
    """

    name: str
    columns: tuple[str, ...]
    item: Callable[[Row, int], Item]
    source: str
    split: str = "train"
    shot: Callable[[Item], str] | None = None
    preamble: Callable[[str | None], str] = lambda subject: ""
    shots_split: str = ""
