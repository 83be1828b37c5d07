"""Texts from every kind of source: the right ones, no more than needed, and one clear line for mistakes."""

import csv
import gzip
import json
import os
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxcram.errors import UserError
from jaxcram.text.sources import kind_of, load_texts
from jaxcram.text.stories import HELD_OUT_SEED, stories

AWKWARD = ["plain", 'quotes " and, commas', "two\nlines\n\nand a paragraph", "naïve 😀", "long " * 50_000]


def write_jsonl(path, texts, column="text"):
    rows = [json.dumps({"id": index, column: text}) for index, text in enumerate(texts)]
    path.write_text("\n\n".join(rows))  # blank lines are no rows


def write_csv(path, texts, column="text"):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", column], *enumerate(texts)])


def write_parquet(path, texts, column="text"):
    table = pa.table({"id": range(len(texts)), column: texts})
    pq.write_table(table, path, row_group_size=2, compression="none", use_dictionary=False)


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


def read(spec, num_samples=None, **options):
    return [(text.sample_id, text.text) for text in load_texts(str(spec), num_samples=num_samples, **options)]


def refusal(spec, num_samples=None, **options) -> str:
    with pytest.raises(UserError) as error:
        load_texts(str(spec), num_samples=num_samples, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Files


def test_paragraphs_of_a_text_file_are_texts(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeff\r\nOne line\r\n and another. \r\n\t\r\n\r\nNaïve\n".encode())
    assert read(file) == [(0, "One line\n and another."), (1, "Naïve")]
    assert read(file, 1, offset=1) == [(1, "Naïve")]


def test_a_text_file_without_blank_lines_is_one_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("One.\nTwo.\nThree.\n")
    assert read(file) == [(0, "One.\nTwo.\nThree.")]


@pytest.mark.parametrize("kind", WRITERS)
def test_tables_give_their_text_column_unchanged(tmp_path, kind):
    WRITERS[kind](tmp_path / f"a.{kind}", AWKWARD)
    assert read(tmp_path / f"a.{kind}") == list(enumerate(AWKWARD))
    assert read(tmp_path / f"a.{kind}", 2, offset=3) == list(enumerate(AWKWARD))[3:5]


@pytest.mark.parametrize("kind", WRITERS)
def test_another_column_can_be_named(tmp_path, kind):
    WRITERS[kind](tmp_path / f"a.{kind}", ["x"], column="body")
    assert read(tmp_path / f"a.{kind}", column="body") == [(0, "x")]


def test_a_directory_of_text_files_is_one_text_a_file_by_name(tmp_path):
    for name, content in {
        "b.txt": "B\n\nb\n",
        "a.txt": "A",
        "10.txt": "ten",
        ".c.txt": "c",
        "README": "r",
    }.items():
        (tmp_path / name).write_text(content)
    assert read(tmp_path) == [(0, "ten"), (1, "A"), (2, "B\n\nb")]


def test_a_directory_of_tables_is_all_their_rows(tmp_path):
    write_csv(tmp_path / "b.csv", ["three"])
    write_jsonl(tmp_path / "a.jsonl", ["one", "two"])
    write_parquet(tmp_path / "c.parquet", ["four"])
    assert read(tmp_path, 3, offset=1) == [(1, "two"), (2, "three"), (3, "four")]


def test_a_directory_is_read_recursively_by_relative_path(tmp_path, caplog):
    for name, text in {
        "b/c.jsonl": "three",
        "a.JSONL": "one",
        "b.jsonl": "two",
        "d/e/f.jsonl": "four",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(tmp_path / name, [text])
    (tmp_path / "g.json").write_text('[{"text": "five"}, "six"]')
    (tmp_path / "h.csv.gz").write_bytes(gzip.compress(b"text\nseven\n"))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden.jsonl").write_text("{")
    numbers = ["one", "two", "three", "four", "five", "six", "seven"]
    assert [text for _, text in read(tmp_path)] == numbers
    assert caplog.messages == []


def test_link_cycles_in_a_directory_are_visited_once(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "sub").mkdir()
    write_jsonl(tmp_path / "sub" / "b.jsonl", ["two"])
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "tub").symlink_to("sub")
    assert read(tmp_path) == [(0, "one"), (1, "two")]


def test_a_warning_names_the_ignored_files_of_a_directory(tmp_path, caplog):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "sub").mkdir()
    for name in ("README", "notes.md", "sub/b.jsonl.lz4", "sub/dataset_info.json", "c.parquet.gz"):
        (tmp_path / name).write_text("{}")
    assert read(tmp_path) == [(0, "one")]
    assert caplog.messages == [
        f"texts={tmp_path}: 5 of its files are ignored: README, c.parquet.gz, notes.md, sub/b.jsonl.lz4, "
        "sub/dataset_info.json"
    ]
    for number in range(9):
        (tmp_path / f"{number}.md").write_text("")
    caplog.clear()
    read(tmp_path)
    assert caplog.messages == [
        f"texts={tmp_path}: 14 of its files are ignored: {', '.join(f'{n}.md' for n in range(9))}, README, "
        "and 4 more"
    ]


def test_an_unreadable_subdirectory_is_refused(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "sub").mkdir(mode=0)
    if os.access(tmp_path / "sub", os.R_OK):
        pytest.skip("root enters every directory")
    assert refusal(tmp_path) == (
        f"texts={tmp_path / 'sub'}: cannot be read (Permission denied); check its permissions"
    )


@pytest.mark.parametrize("name", ["a:b", "file:a", "a b", "a#b?c=d", "%41", os.fsdecode(b"caf\xe9"), "naïve"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_path_may_look_like_a_hub_name(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    with open(f"plain.{kind}", "w"):
        WRITERS[kind](Path(f"plain.{kind}"), ["one"])
    os.rename(f"plain.{kind}", f"{name}.{kind}")
    assert read(f"{name}.{kind}") == [(0, "one")]
    os.mkdir(name)
    os.rename(f"{name}.{kind}", f"{name}/a.{kind}")
    assert read(name) == [(0, "one")]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(f"~/{name}") == [(0, "one")]


def test_no_more_is_read_than_needed(tmp_path):
    """What stands behind the texts asked for is broken, and nobody notices."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "two"}\n{"text": \xff')
    (tmp_path / "a.csv").write_bytes(b"text\none\ntwo\n\xff\n")
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n\n\xff\n")
    write_parquet(tmp_path / "a.parquet", ["one", "two", "behind" * 1000, "behind" * 1000])
    content = (tmp_path / "a.parquet").read_bytes()
    start = content.index(b"behind") - 40  # the header of the second row group's page
    (tmp_path / "a.parquet").write_bytes(content[:start] + b"\xff" * 60 + content[start + 60 :])
    (tmp_path / "d").mkdir()
    for name, line in {"1": b"one", "2": b"two", "3": b"\xff"}.items():
        (tmp_path / "d" / f"{name}.txt").write_bytes(line)
    for name in ("a.jsonl", "a.csv", "a.txt", "a.parquet", "d"):
        assert read(tmp_path / name, 2) == [(0, "one"), (1, "two")]
        refusal(tmp_path / name, 3)


# The package's own texts


def test_bundled_texts_are_six_held_out_stories_and_two_passages():
    passages = [text for _, text in read("passages")]
    assert len(passages) == 24
    assert read("bundled") == list(enumerate([*stories(HELD_OUT_SEED, 6), *passages[:2]]))


def test_stories_are_endless_or_counted():
    expected = list(islice(stories(HELD_OUT_SEED, 12), 12))
    assert read("stories", 2, offset=10) == [(10, expected[10]), (11, expected[11])]
    assert read("stories:3") == list(enumerate(expected[:3]))
    assert refusal("stories:3", 4) == "num_samples=4: texts=stories:3 holds only 3 texts; lower it"
    assert refusal("stories") == "texts=stories has no end; give num_samples=N, or texts=stories:N"
    assert refusal("stories:all", 2) == "texts=stories:all: write a number after stories:, as in stories:100"


def test_the_kind_of_a_text_is_known_for_the_package_s_own():
    assert [kind_of("bundled", sample_id) for sample_id in range(8)] == ["story"] * 6 + ["prose"] * 2
    assert [
        kind_of(spec, 7) for spec in ("stories", "stories:9", "passages", "stories.txt", "owner/name")
    ] == [
        "story",
        "story",
        "prose",
        "text",
        "text",
    ]


def test_a_file_named_like_a_keyword_is_reached_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "passages").mkdir()
    (tmp_path / "passages" / "a.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert read("./passages") == [(0, "mine")]
    assert len(read("passages")) == 24
