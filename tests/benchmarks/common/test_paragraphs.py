"""The committed list of paragraphs, and the texts that it takes from an archive."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from common import paragraphs
from common.paragraphs import Entry
from jaxcram.errors import UserError
from jaxcram.text.sources import load_texts

PROGRAM = Path(paragraphs.__file__)
NOVELS = {"One_1": "ONE\n\nIt began.", "Two_2": "TWO\nÀ “quoted” paragraph.\nThe end."}


def entry(novel, line, text):
    return Entry(novel, line, hashlib.sha256(text.encode()).hexdigest()[:16], text[:8])


ENTRIES = [entry("Two_2", 2, "À “quoted” paragraph."), entry("One_1", 3, "It began.")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("novels") / "novels.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for name, text in NOVELS.items():
            member = tarfile.TarInfo(f"novels/{name}.txt")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_paragraphs_come_in_the_order_of_the_list_and_are_read_as_texts(archive, tmp_path):
    paragraphs.write(archive, tmp_path / "texts.jsonl", ENTRIES)
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert rows == [
        {"novel": "Two_2", "line": 2, "text": "À “quoted” paragraph."},
        {"novel": "One_1", "line": 3, "text": "It began."},
    ]
    texts = load_texts(str(tmp_path / "texts.jsonl"), num_samples=None)
    assert [one.text for one in texts] == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (entry("One_1", 3, "Another."), "line 3 of One_1.txt"),
        (entry("One_1", 4, "It began."), "line 4 of One_1.txt"),
        (entry("Three_3", 1, "It began."), "Three_3.txt"),
    ],
)
def test_another_corpus_is_refused(archive, wrong, what):
    with pytest.raises(UserError) as error:
        paragraphs.paragraphs(archive, [*ENTRIES, wrong])
    assert str(error.value) == (
        f"{archive}: {what} is absent or another text than {wrong.beginning!r}..; give the archive from "
        "which the list was made"
    )


def test_the_list_has_50_paragraphs_the_first_24_of_different_novels():
    entries = paragraphs.listed()
    assert len({(one.novel, one.line) for one in entries}) == 50
    assert len({one.novel for one in entries[:24]}) == 24
    assert entries[:24] == sorted(entries[:24])
    assert all(len(bytes.fromhex(one.sha256)) == 8 and one.line > 0 and one.beginning for one in entries)


def test_the_list_is_of_the_reference_corpus(shared):
    if not (shared / "corpus/novels.tar.xz").exists():
        pytest.skip("the novels are absent from ../shared")
    entries = paragraphs.listed()
    texts = paragraphs.paragraphs(shared / "corpus/novels.tar.xz", entries)
    assert [text.startswith(one.beginning) for text, one in zip(texts, entries, strict=True)] == [True] * 50


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"no archive", "is damaged or no tar archive"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, content, why):
    path = tmp_path / "novels.tar.xz"
    if content:
        path.write_bytes(content)
    command = [sys.executable, PROGRAM, path, tmp_path / "texts.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {path}: {why}; give the archive of novels\n"
    assert not (tmp_path / "texts.jsonl").exists()


def test_a_damaged_archive_is_refused(archive, tmp_path):
    (tmp_path / "half.tar.xz").write_bytes(archive.read_bytes()[:100])
    with pytest.raises(UserError, match=r"half\.tar\.xz: is damaged or no tar archive; give the archive"):
        paragraphs.paragraphs(tmp_path / "half.tar.xz", ENTRIES)
