"""Sources that are not there or not texts: one clear line; texts that a program hands over; the Hub."""

import hashlib
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import HfHubHTTPError

from jaxcram.errors import UserError
from jaxcram.text.sources import given_texts
from tests.text.test_sources import WRITERS, read, refusal, write_csv

# Mistakes


def test_counts_beyond_the_source_are_refused(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\n\ntwo\n\nthree\n")
    assert refusal(file, 4) == f"num_samples=4: texts={file} holds only 3 texts; lower it"
    assert (
        refusal(file, 3, offset=1)
        == f"num_samples=3: texts={file} holds only 2 texts after offset=1; lower it"
    )
    for offset in (3, 9):
        assert (
            refusal(file, 1, offset=offset)
            == f"offset={offset}: texts={file} holds only 3 texts; lower the offset"
        )
    file.write_text("one\n")
    assert refusal(file, 2) == f"num_samples=2: texts={file} holds only 1 text; lower it"
    assert refusal(file, 1, offset=1) == f"offset=1: texts={file} holds only 1 text; lower the offset"
    assert refusal(file, 0) == "num_samples=0 must be at least 1"
    assert refusal(file, 1, offset=-1) == "offset=-1 must be 0 or greater"
    assert refusal(file, 1, split="test").startswith("split=test: only Hub data sets have splits")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "empty/a.jsonl"])
def test_a_source_without_any_text(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\n\n" if name == "a.txt" else b"")
    assert refusal(tmp_path / name) == f"texts={tmp_path / name} has no text; give another source"


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_text_is_named_by_its_sample(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    WRITERS[kind](file, ["one", "two", " \n", "four"])
    assert refusal(file) == f"texts={file}: sample 2 is empty; remove it or skip it"
    assert read(file, offset=3) == [(3, "four")]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_column_is_named_with_the_existing_ones(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    WRITERS[kind](file, ["x"], column="body")
    where = {"jsonl": f"{file}: line 1", "csv": f"{file}", "parquet": f"{file}"}[kind]
    assert refusal(file) == f"{where}: no column 'text'; it has id, body"


def test_a_column_of_numbers_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": 2}\n')
    assert refusal(tmp_path / "a.jsonl").endswith("line 2: column 'text' holds int, not text; correct it")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "a.parquet")
    assert refusal(tmp_path / "a.parquet").endswith(
        "a.parquet: column 'text' holds int64, not text; correct it"
    )


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "d/a.txt"])
def test_invalid_utf8_is_located(tmp_path, name):
    content = {
        "a.txt": "\ufeffé\n\n",
        "a.jsonl": '{"text": "é"}\n',
        "a.csv": "text\né\n",
        "d/a.txt": "é\n\n",
    }[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content.encode() + b"ab\xe9\n")
    position = len(content.encode()) + 2
    assert refusal(tmp_path / name) == (
        f"{tmp_path / name}: not UTF-8 (byte {position}); convert it, for example with iconv -t UTF-8"
    )


def test_the_byte_position_counts_the_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab\xe9\n")
    assert "(byte 5)" in refusal(tmp_path / "a.txt")


def test_lines_that_are_not_json_objects_are_numbered(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n\n{"text": \n')
    assert refusal(file).startswith(f"{file}: line 3 is not valid JSON (Expecting value")
    file.write_text('{"text": "one"}\n["two"]\n')
    assert refusal(file) == f"{file}: line 2 is not a JSON object; write one per line"
    file.write_text('{"text": "ab\\ud800"}\n')
    assert refusal(file) == f"{file}: line 1: unpaired surrogate (character 2); correct it"


def test_a_table_of_another_format_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("text\none\n")
    assert refusal(tmp_path / "a.parquet").startswith(f"{tmp_path / 'a.parquet'}: not readable as Parquet (")
    (tmp_path / "a.csv").write_text('text\n"open\n')
    assert refusal(tmp_path / "a.csv").startswith(f"{tmp_path / 'a.csv'}: line 2 is not valid CSV (")
    (tmp_path / "a.docx").write_text("x")
    assert refusal(tmp_path / "a.docx") == (
        f"texts={tmp_path / 'a.docx'}: not one of .txt, .jsonl, .ndjson, .json, .csv, .tsv, .parquet, "
        "nor one of these compressed (.gz, .bz2, .xz, .zst; not .parquet); convert or rename it"
    )


def test_directories_without_texts_are_refused(tmp_path):
    kinds = ".txt, .jsonl, .ndjson, .json, .csv, .tsv, .parquet"
    assert refusal(tmp_path) == f"texts={tmp_path}: no {kinds} file in it"
    (tmp_path / "a.md").write_text("x")
    assert refusal(tmp_path) == f"texts={tmp_path}: no {kinds} file in it; it has a.md"
    (tmp_path / "a.txt").write_text("x")
    write_csv(tmp_path / "b.csv", ["x"])
    assert refusal(tmp_path) == (
        f"texts={tmp_path}: has both .txt files and tables (a.txt, b.csv); keep only one kind"
    )


@pytest.mark.parametrize(
    "spec", ["absent.txt", "/absent/dir", "./absent", "a/b/c", "~/absent", "Once upon a time", ""]
)
def test_a_missing_path_is_reported_without_asking_the_hub(spec, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal(spec, 1) == f"texts={spec!r}: no such file or directory; check the path"


def test_a_text_in_place_of_a_path_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal("Once upon a time\nthere was " * 50, 1)
    assert message.startswith("texts='Once upon a time\\nthere was ")
    assert message.endswith("'...: no such file or directory; check the path")
    assert len(message) < 200


def test_a_long_path_is_reported_completely():
    missing = f"/absent/{'long' * 20}/missing.txt"
    assert refusal(missing, 1) == f"texts={missing!r}: no such file or directory; check the path"


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a.txt", "gs://bucket", "hf://datasets/owner/name", "HTTPS://x.org/a"]
)
def test_a_uri_is_refused_with_a_remedy(uri):
    scheme = uri.split(":")[0].lower()
    assert refusal(uri) == (
        f"texts={uri}: {scheme}:// is not supported; use a local disk, and give a path there"
    )
    assert refusal("file:///a.txt") == "texts=file:///a.txt: file:// is not supported; give the path alone"


# Texts that a program hands over


@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), (text for text in "ab"), np.array(["a", "b"])])
def test_texts_may_come_in_any_sequence_of_strings(given):
    source, texts = given_texts(given)
    assert [(text.sample_id, text.text) for text in texts] == [(0, "a"), (1, "b")]
    assert {type(text.text) for text in texts} == {str}
    assert source.texts == f"given:{hashlib.sha256(b'a' + bytes(1) + b'b').hexdigest()[:16]}"


def given_refusal(given) -> str:
    with pytest.raises(UserError) as error:
        given_texts(given)
    return str(error.value)


def test_invalid_sequences_of_texts_are_refused_with_the_sample():
    for wrong, shown in (
        (None, "None"),
        (b"x", "b'x'"),
        (1.5, "1.5"),
        (["x"], "['x']"),
        (" ", "' '"),
        ("", "''"),
    ):
        assert given_refusal(["x", wrong]) == (
            f"texts: entry 1 is {shown}, not a text; remove it, or give a string"
        )
    for wrong, name in ((None, "NoneType"), (5, "int"), ({"a": "b"}, "dict"), ({"a"}, "set")):
        assert given_refusal(wrong) == (
            f"texts: {name} is neither a source nor a list of texts; "
            'give "bundled", a path, or a list of strings'
        )
    assert given_refusal(np.array([["x"]])).startswith(
        "texts: ndarray is neither a source nor a list of texts"
    )
    assert given_refusal([]) == "texts: the list is empty; give at least one text"
    assert given_refusal(["\ud800"]) == "texts: entry 0: unpaired surrogate (character 0); correct it"


# The Hub


def serve(monkeypatch, load_dataset):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # nor is the Hub asked
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_a_hub_data_set_is_streamed_and_no_further_than_needed(monkeypatch):
    calls, served = [], []

    def load_dataset(*arguments, **options):
        calls.append((arguments, options))
        for index in range(1000):
            served.append(index)
            yield {"id": index, "text": f"text {index}"}

    serve(monkeypatch, load_dataset)
    expected = [(2, "text 2"), (3, "text 3")]
    assert read("owner/name", 2, offset=2, split="test") == expected
    assert served == [0, 1, 2, 3]
    assert read("owner/name:en-2", 2, offset=2) == expected
    assert read("wikitext", 2, offset=2) == expected
    assert calls == [
        (("owner/name", None), {"split": "test", "streaming": True}),
        (("owner/name", "en-2"), {"split": "train", "streaming": True}),
        (("wikitext", None), {"split": "train", "streaming": True}),
    ]


def test_a_hub_data_set_that_cannot_be_read(monkeypatch):
    def no_such_split(*arguments, **options):
        raise ValueError("Bad split: dev. Available splits: ['train']\nmore")

    serve(monkeypatch, no_such_split)
    assert refusal("owner/name", 1, split="dev") == (
        "texts=owner/name: no such file, nor a readable Hub data set with split 'dev' "
        "(Bad split: dev. Available splits: ['train']); check the name, the split and the network"
    )
    serve(monkeypatch, lambda *arguments, **options: iter([{"id": 0, "content": "x"}]))
    assert refusal("owner/name", 1) == "texts=owner/name: row 0: no column 'text'; it has id, content"
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    assert refusal("owner/name", 1) == (
        "texts=owner/name: no such file, and Hub data sets need the package datasets; pip install datasets"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            HfHubHTTPError("404 Client Error\nmore", response=SimpleNamespace(headers={}, request=None)),
            "no such file or directory, nor a data set of the Hub (404 Client Error more); check the name",
        ),
        (
            ConnectionError("timed out"),
            "no such file or directory, and the Hub did not answer within 10 s (timed out); check the path "
            "or the network (HF_HUB_OFFLINE=1 reads a data set from the cache)",
        ),
    ],
)
def test_the_hub_is_asked_once_with_a_timeout(monkeypatch, answer, message):
    serve(monkeypatch, None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked = []

    def dataset_info(self, name, timeout):
        asked.append((name, timeout))
        raise answer

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    assert refusal("storys:en", 1) == f"texts=storys: {message}"
    assert asked == [("storys", 10)]


@pytest.mark.slow
def test_without_a_network_the_error_is_one_line():
    body = """
from jaxcram.errors import UserError
from jaxcram.text.sources import load_texts
try:
    load_texts("nobody/nothing", num_samples=1)
except UserError as error:
    print(error)
"""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", body], env=offline, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        "texts=nobody/nothing: no such file, nor a readable Hub data set with split 'train' ("
    )
    assert "Couldn't reach 'nobody/nothing' on the Hub" in line  # so the call itself was right
    assert line.endswith("; check the name, the split and the network")
