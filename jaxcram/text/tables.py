"""Rows of tables: files, and data sets of the Hub."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxcram import hub
from jaxcram.errors import UserError
from jaxcram.text import characters, readers

_HUB_NAME = re.compile(r"[\w-][\w.-]*(?:/[\w.-]+)?(?::[\w.-]+)?")


def rows(
    setting: str, spec: str, split: str, columns: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a table: a file, or a data set of the Hub; each after where it is, for messages.

    Args:
        setting: how messages name the source.
        spec: a table's file (see `load_texts`), or the name of a Hub data set, optionally `name:config`.
        split: of the Hub data set.
        columns: what every row has; it may have more.

    Raises:
        UserError: there is no such file or data set, it is damaged, or a column is missing.
    """
    if path := hub.local(setting, spec):
        yield from readers.rows(path, columns)
        return
    if not is_hub_name(spec):
        raise UserError(f"{setting}={spec}: no such file; check the path")
    for where, row in hub_rows(setting, spec, split):
        for column in columns:
            readers.require(column, row, where)
        yield where, row


def is_hub_name(spec: str) -> bool:
    """Whether a source that is no file may be the name of a Hub data set, optionally `name:config`."""
    return _HUB_NAME.fullmatch(spec) is not None and not hub.is_path(spec) and readers.kind(spec) is None


def hub_rows(setting: str, spec: str, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a Hub data set, as `rows`, with whatever columns it has."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UserError(
            f"{setting}={spec}: no such file, and Hub data sets need the package datasets; "
            "pip install datasets"
        ) from error
    name, _, config = spec.partition(":")
    hub.require_data_set(setting, name)
    try:
        for number, row in enumerate(load_dataset(name, config or None, split=split, streaming=True)):
            yield f"{setting}={spec}: row {number}", row
    except UserError:
        raise
    except Exception as error:  # many types: unknown name or split, gated data set, no network
        raise UserError(
            f"{setting}={spec}: no such file, nor a readable Hub data set with split {split!r} "
            f"({characters.first_line(error)}); check the name, the split and the network"
        ) from error
