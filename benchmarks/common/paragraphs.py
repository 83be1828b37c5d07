"""The texts of the real runs: 50 paragraphs of 24 novels, the first 24 of different ones, from an archive.

    python benchmarks/common/paragraphs.py novels.tar.xz paragraphs.jsonl

`paragraphs.tsv` beside this file lists them: the novel's file name without `.txt`, the line (from 1) that
holds the paragraph, and the digest of its UTF-8 text, so that another edition is refused. The output has a
row for each, in that order, with the columns `novel`, `line` and `text`: `--texts` of every program reads it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
import sys
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxcram.errors import UserError

LIST = Path(__file__).with_suffix(".tsv")


class Entry(NamedTuple):
    """One line of the list.

    Attributes:
        novel: file name in the archive, without `.txt`.
        line: number of the paragraph's line, from 1.
        sha256: first 16 hexadecimal digits of the digest of its text.
        beginning: its first words, for people.
    """

    novel: str
    line: int
    sha256: str
    beginning: str


def listed(path: Path = LIST) -> list[Entry]:
    """The entries of a list."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Entry(**row | {"line": int(row["line"])}) for row in rows]


def paragraphs(archive: str | Path, entries: Sequence[Entry]) -> list[str]:
    """The paragraphs of `entries`, in their order, from a tar archive of novels with a paragraph a line.

    Raises:
        UserError: the archive cannot be read, or does not hold these paragraphs.
    """
    try:
        novels = _files(archive, {f"{entry.novel}.txt" for entry in entries})
    except OSError as error:
        raise UserError(
            f"{archive}: cannot be read ({error.strerror}); give the archive of novels"
        ) from error
    except (EOFError, lzma.LZMAError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{archive}: is damaged or no tar archive; give the archive of novels") from error
    texts = []
    for novel, line, sha256, beginning in entries:
        lines = novels.get(f"{novel}.txt", b"").split(b"\n")
        text = lines[line - 1] if line <= len(lines) else b""
        if hashlib.sha256(text).hexdigest()[:16] != sha256:
            what = f"line {line} of {novel}.txt" if f"{novel}.txt" in novels else f"{novel}.txt"
            raise UserError(
                f"{archive}: {what} is absent or another text than {beginning!r}..; give the archive from "
                "which the list was made"
            )
        texts.append(text.decode())
    return texts


def _files(archive: str | Path, names: set[str]) -> dict[str, bytes]:
    """The contents of the files with these names, in whatever folder of the archive."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            if name in names and (file := tar.extractfile(member)):
                found[name] = file.read()
    return found


def write(archive: str | Path, out: str | Path, entries: Sequence[Entry]) -> None:
    """Write the paragraphs of `entries` as the JSON lines of `out`; see `paragraphs` for the errors."""
    texts = paragraphs(archive, entries)
    rows = [
        {"novel": entry.novel, "line": entry.line, "text": text}
        for entry, text in zip(entries, texts, strict=True)
    ]
    try:
        Path(out).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another file") from error


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2 or any(one.startswith("-") for one in arguments):
        print(__doc__)
        sys.exit(0 if {"--help", "-h"} & set(arguments) else 2)
    try:
        write(*arguments, listed())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(UserError.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
