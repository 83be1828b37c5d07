"""Data sets as the package `datasets` saves and publishes them, as Arrow rows; never whole in memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from jaxcram import hub
from jaxcram.errors import UserError
from jaxcram.results import disk
from jaxcram.text.characters import first_line

STATE = "state.json"  # in every folder that `Dataset.save_to_disk` writes
DICT = "dataset_dict.json"  # in one that `DatasetDict.save_to_disk` writes
_SHARD = re.compile(r"(.+)-\d+-of-\d+(-[0-9a-f]+)?")  # the split, and the number of a Parquet file
_FEW = {"batch_size": 1024, "batch_readahead": 2, "fragment_readahead": 1}  # how much of Parquet at once


def open_all(source: str, split: str) -> list[tuple[str, pa.dataset.Dataset]]:
    """The data sets of a source, each with where it is, for messages; their rows stay on disk.

    Args:
        source: a folder that `save_to_disk` wrote, or one with such folders below it; a Parquet file or a
            folder of them; or a Hub data set, as `name:config`.
        split: of a source that has several; all Parquet files are read where none names a split.

    Raises:
        UserError: there is no such source, it is damaged, or it has no such split.
    """
    from pyarrow import dataset  # it imports pandas, a third of a second

    path = hub.local("source", source)
    if path is None:
        return [(source, dataset.dataset(_of_hub(source, split)))]
    if path.is_dir() and (saved := _saved(path, split)):
        return [(str(folder), dataset.dataset(_of_folder(folder))) for folder in saved]
    files = [path] if path.is_file() else _of_split(path, split)
    if not files:
        raise UserError(f"{source}: neither a saved data set nor Parquet files in it; check the path")
    try:
        return [(source, dataset.dataset([str(file) for file in files], format="parquet"))]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source}: not readable as Parquet ({first_line(error)}); write it again") from error


def read(
    where: str,
    rows: pa.dataset.Dataset,
    columns: list[str],
    filter: pa.compute.Expression | None = None,
) -> pa.Table:
    """Some columns of some rows of a data set.

    Raises:
        UserError: the data set is damaged.
    """
    with _readable(where):
        return rows.to_table(columns=columns, filter=filter, **_FEW)


def count(where: str, rows: pa.dataset.Dataset, filter: pa.compute.Expression) -> int:
    """How many rows of a data set are as a filter says; raises as `read`."""
    with _readable(where):
        return int(rows.count_rows(filter=filter))


class Saving:
    """A data set that is written table by table; `finish` makes of it what `load_from_disk` reads.

    Args:
        folder: the data set's; made by `finish`.
        schema: of its rows.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self._rows = folder.with_name(f".{folder.name}.arrow")
        with disk.writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with disk.writing_through(self._rows):
            self._file = pa.OSFile(str(self._rows), "wb")
            self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, table: pa.Table) -> None:
        """Adds rows.

        Raises:
            UserError: the disk does not take them.
        """
        with disk.writing_through(self._rows):
            self._writer.write_table(table)

    def finish(self) -> None:
        """Writes the data set.

        Raises:
            UserError: the disk does not take it.
        """
        from datasets import Dataset

        with disk.writing_through(self.folder), _quiet():
            self._writer.close()
            self._file.close()
            Dataset.from_file(str(self._rows)).save_to_disk(self.folder)
            self._rows.unlink()


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """Raises what Arrow raises in the block as a UserError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: cannot be read ({first_line(error)}); get it again") from error


def _of_split(folder: Path, split: str) -> list[Path]:
    """The Parquet files of a split in a folder and below it; all of them if none names a split."""
    files = {file: _split_of(file, folder) for file in sorted(folder.rglob("*.parquet"))}
    if not any(files.values()):
        return list(files)
    if split not in files.values():
        raise _no_split(folder, split, filter(None, files.values()))
    return [file for file, named in files.items() if named == split]


def _split_of(file: Path, folder: Path) -> str | None:
    """The split in a file's name, which on the Hub is SPLIT-00000-of-00001.parquet or SPLIT/0000.parquet."""
    if match := _SHARD.fullmatch(file.stem):
        return match[1]
    return file.parent.name if file.stem.isdecimal() and file.parent != folder else None


def _no_split(folder: Path, split: str, known: Iterable[str]) -> UserError:
    there = ", ".join(sorted(set(known)))
    return UserError(f"{folder}: no split {split!r} in it; choose split from {there or 'none'}")


def _saved(path: Path, split: str) -> list[Path]:
    """The saved data sets in a folder and below it; of those that have splits, the one asked for."""
    splits = {found.parent for found in path.rglob(DICT)}
    for folder in sorted(splits):
        if not (folder / split / STATE).exists():
            raise _no_split(folder, split, (found.parent.name for found in folder.glob(f"*/{STATE}")))
    found = [state.parent for state in path.rglob(STATE)]
    return sorted(folder for folder in found if folder.parent not in splits or folder.name == split)


def _of_folder(folder: Path) -> pa.Table:
    from datasets import Dataset

    try:
        return Dataset.load_from_disk(str(folder)).data.table  # mapped, not read
    except Exception as error:  # many types: a missing file, damaged JSON or Arrow
        raise UserError(
            f"{folder}: not readable as a data set ({first_line(error)}); save it again"
        ) from error


def _of_hub(source: str, split: str) -> pa.Table:
    name, _, config = source.partition(":")
    if hub.is_path(name):
        raise UserError(f"{source}: no such file or directory; check the path")
    hub.require_data_set("source", name)
    from datasets import load_dataset

    try:
        return load_dataset(name, config or None, split=split).data.table
    except Exception as error:  # many types: unknown name, config or split, gated data set, no network
        raise UserError(
            f"{source}: no such file, nor a readable Hub data set with split {split!r} "
            f"({first_line(error)}); check the name, the split and the network"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of `datasets`."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
