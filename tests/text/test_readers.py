"""Files of texts: every row as it stands there, compressed or not, and rows that do not add up refused."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxcram.errors import UserError
from jaxcram.text import readers


def read(path, column="text"):
    return list(readers.texts(path, column))


def refusal(path, column="text") -> str:
    with pytest.raises(UserError) as error:
        read(path, column)
    return str(error.value)


def zstandard(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return out.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard}
CONTENTS = {
    ".txt": "naïve\n\ntwo\nlines\n",
    ".jsonl": '{"text": "naïve"}\n{"text": "two\\nlines"}\n',
    ".ndjson": '{"text": "naïve"}\n\n{"text": "two\\nlines"}',
    ".json": '[{"text": "naïve"}, "two\\nlines"]',
    ".csv": 'text\nnaïve\n"two\nlines"\n',
    ".tsv": 'id\ttext\n1\tnaïve\n2\t"two\nlines"\n',
}


# Names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", ".txt"),
        ("A.TXT", ".txt"),
        ("a.Jsonl.GZ", ".jsonl"),
        ("a.b.tsv.zst", ".tsv"),
        ("a.parquet", ".parquet"),
        ("a.parquet.gz", None),
        ("a.tar.gz", None),
        ("a.gz", None),
        (".txt", None),
        ("txt", None),
        ("a.txt.gz.xz", None),
        ("", None),
    ],
)
def test_the_format_of_a_file_follows_from_its_name(name, kind):
    assert readers.kind(name) == kind


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("compression", ["", *COMPRESS])
def test_every_format_is_read_compressed_and_with_upper_case_suffix(tmp_path, kind, compression):
    content = COMPRESS.get(compression, bytes)(CONTENTS[kind].encode())
    for name in (f"a{kind}{compression}", f"A{kind}{compression}".upper()):
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == ["naïve", "two\nlines"]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_damaged_or_misnamed_compression_is_one_line(tmp_path, compression):
    file = tmp_path / f"a.txt{compression}"
    whole = COMPRESS[compression](bytes(range(32, 127)) * 100 + b"\n")
    for content in (whole[: len(whole) // 2], b"plain text, and long enough for any header"):
        file.write_bytes(content)
        message = refusal(file)
        assert message.startswith(f"{file}: damaged")
        assert message.endswith(("; compress it again", "; compress or rename it"))


# Rows of other lengths


@pytest.mark.parametrize(
    ("rows", "line", "cells"),
    [
        ("1,Once upon a time, there was", 2, "3 cells"),
        ('1,"fine, as quoted"\n2,Once, there', 3, "3 cells"),
        ("1", 2, "1 cell"),
        ("\n\n1,fine\nno id", 5, "1 cell"),
        ('1,"two\nlines"\n\n"2\n3","x",y', 5, "3 cells"),
        ("1,x,", 2, "3 cells"),
    ],
)
def test_a_row_with_a_wrong_number_of_cells_is_refused_with_its_line(tmp_path, rows, line, cells):
    file = tmp_path / "a.csv"
    file.write_text(f"id,text\n{rows}\n")
    assert refusal(file) == (
        f"{file}: line {line} has {cells}, but the header has 2; "
        "write every cell, and quote those that contain ',' (\"...\")"
    )


def test_blank_lines_and_quoted_commas_are_accepted(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('\n\nid,text\n\n1,"one, two"\n  \n\n2,"a ""b"""\n\n')
    assert read(file) == ["one, two", 'a "b"']
    file.write_text('text\none\n\n"two, three"\n')
    assert read(file) == ["one", "two, three"]
    file.write_text("text\none, two\n")
    assert refusal(file).startswith(f"{file}: line 2 has 2 cells, but the header has 1; ")


def test_a_table_with_another_delimiter_is_refused(tmp_path):
    file = tmp_path / "a.csv"
    for separator in "\t;|":
        file.write_text(f"id{separator}text\n1{separator}one, two\n")
        assert refusal(file) == (
            f"{file}: its cells are separated by {separator!r}, not by ','; "
            "convert it, or name it .csv for commas and .tsv for tabs"
        )
    tabs = tmp_path / "a.tsv"
    tabs.write_text("id,text\n1,one\n")
    assert refusal(tabs).startswith(f"{tabs}: its cells are separated by ',', not by '\\t'; ")
    tabs.write_text("id\ttext\n1\tone, two\n2\ta\tb\n")
    assert refusal(tabs).startswith(f"{tabs}: line 3 has 3 cells, but the header has 2; ")


# JSON


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('[{"text": "one", "id": 1}, {"text": "two"}]', ["one", "two"]),
        ('["one",\n"two"]', ["one", "two"]),
        ('{"text": "one",\n "id": 1}', ["one"]),
        ('{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        ('\ufeff [ "one" ] ', ["one"]),
        ("[]", []),
        ("", []),
        ('[{"text": null}]', [""]),
        (json.dumps(["long " * 40_000, {"text": "é" * 70_000}]), ["long " * 40_000, "é" * 70_000]),
        (json.dumps([{"text": "é" * 70_000}], ensure_ascii=False), ["é" * 70_000]),
    ],
)
def test_json_holds_objects_or_strings(tmp_path, content, texts):
    (tmp_path / "a.json").write_text(content)
    assert read(tmp_path / "a.json") == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["one", {"text": ]', "row 1 is not valid JSON (Expecting value); correct it"),
        ('["one" "two"]', "row 1 is not valid JSON (expecting ',' or ']' after an element); correct it"),
        ('["one",', "row 1 is not valid JSON (Expecting value); correct it"),
        ('["one"', "row 1 is not valid JSON (the array is not closed); correct it"),
        ('["one", 2]', "row 1 is neither a JSON object nor a string; write an array of either"),
        ("[null]", "row 0 is neither a JSON object nor a string; write an array of either"),
        ("[[]]", "row 0 is neither a JSON object nor a string; write an array of either"),
        (
            '{"text": "a", "text": "b"}',
            "row 0 is not valid JSON (duplicate key 'text'); correct it",
        ),
        ('[{"text": ["a"]}]', "row 0: column 'text' holds list, not text; correct it"),
        ('{"id": 1}', "row 0: no column 'text'; it has id"),
        ('["a\\ud800"]', "row 0: unpaired surrogate (character 1); correct it"),
        ("[" * 200, "row 0 is not valid JSON (Expecting value); correct it"),
        (
            '{"text": ' + "[" * 200 + "]" * 200 + "}",
            "row 0 is not valid JSON (nested more than 100 deep); correct it",
        ),
    ],
)
def test_json_with_other_values_is_refused_with_the_row(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_text(content)
    assert refusal(file) == f"{file}: {message}"


def test_json_is_read_a_row_at_a_time(tmp_path):
    """What stands behind the rows asked for is broken, and nobody notices."""
    (tmp_path / "a.json").write_bytes(b'["one", "two", "' + b"x" * 200_000 + b'", "\xff')
    rows = readers.texts(tmp_path / "a.json", "text")
    assert [next(rows), next(rows)] == ["one", "two"]
    with pytest.raises(UserError, match=r"not UTF-8 \(byte 200020\)"):
        next(rows)


# Parquet


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None, "b"], pa.string()),
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array(["a", None, "b"], pa.string_view()),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array(["a", None, "b"], pa.large_string()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_every_arrow_string_is_text(tmp_path, array):
    pq.write_table(pa.table({"text": array}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a", "", "b"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([b"a"]),
        pa.array([b"a"], pa.large_binary()),
        pa.array([b"a"], pa.binary_view()),
        pa.array([b"a"]).dictionary_encode(),
        pa.array([1]),
        pa.array([{"text": "a"}]),
        pa.nulls(1),
    ],
    ids=lambda array: str(array.type),
)
def test_no_other_arrow_type_is_text(tmp_path, array):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": array}), file)
    assert refusal(file) == f"{file}: column 'text' holds {array.type}, not text; correct it"
