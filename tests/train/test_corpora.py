"""Sources as documents, a part of them held out."""

import dataclasses
import gzip
import json
from itertools import islice
from pathlib import Path

import pytest

from jaxcram.errors import UserError
from jaxcram.text.stories import HELD_OUT_SEED, story
from jaxcram.train.corpora import Stories, open_corpora
from jaxcram.train.settings import PretrainSettings
from jaxcram.train.vocabulary import train_tokenizer
from tests.train.tiny import TINY


def test_whole_texts_are_held_out(settings: PretrainSettings) -> None:
    corpora = open_corpora(settings)
    held_out = {line.split(",")[0] for document in corpora[1].held_out for line in document.split("\n")}
    trained = {line.split(",")[0] for document in corpora[1].train for line in document.split("\n")}
    assert len(held_out) == 1
    assert held_out | trained == {f"Volume {index}" for index in range(4)}
    assert held_out & trained == set()


def test_stories_to_train_on_and_held_out_are_the_generators(settings: PretrainSettings) -> None:
    stories = open_corpora(settings)[0]
    assert list(islice(stories.train, 2)) == [story(0), story(1)]
    assert list(islice(stories.held_out, 2)) == [story(HELD_OUT_SEED), story(HELD_OUT_SEED + 1)]


def test_long_texts_become_documents_of_whole_lines(settings: PretrainSettings, novel: Path) -> None:
    documents = list(open_corpora(settings)[1].train)
    assert all(line.startswith("Volume") for document in documents for line in document.split("\n"))
    assert max(map(len, documents)) < 1000 + max(map(len, (novel / "0.txt").read_text().split("\n")))
    assert sum(document.count("\n") + 1 for document in documents) == 3 * 20


def test_the_generator_starts_anew_each_time() -> None:
    stories = Stories(5)
    assert list(islice(stories, 2)) == list(islice(stories, 2)) == [story(5), story(6)]


def test_tokenizer_begins_with_bos_and_gives_any_text_back(settings: PretrainSettings) -> None:
    tokenizer = train_tokenizer(open_corpora(settings), 300)
    text = "Zoé paid 5£ — “twice”!\n\tTab.  Two spaces."
    ids = tokenizer.encode(text).ids
    assert tokenizer.get_vocab_size() == 300
    assert ids[0] == tokenizer.token_to_id("<s>") == 0
    assert tokenizer.decode(ids) == text


def test_whatever_cram_reads_can_be_trained_on(tmp_path: Path) -> None:
    """A compressed table, a directory of tables in a relative path, and a keyword."""
    lines = [json.dumps({"text": f"Row {row}"}) for row in range(4)]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "one.JSONL.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "rows.json").write_text(f"[{','.join(lines)}]")
    settings = dataclasses.replace(TINY, sources=f"{tmp_path}/tables,{tmp_path}/rows.json,passages")
    tables, rows, passages = open_corpora(settings)
    assert sorted([*rows.train, *rows.held_out]) == [f"Row {row}" for row in range(4)]
    assert (rows.train, rows.held_out, rows.digest) == (tables.train, tables.held_out, tables.digest)
    assert (rows.share, len(list(passages.held_out))) == (1 / 3, 1)


def test_a_digest_is_that_of_the_texts_in_their_order(tmp_path: Path) -> None:
    digests = []
    for number, texts in enumerate((["a", "b"], ["a", "b"], ["b", "a"], ["a", "b", "c"])):
        (tmp_path / f"{number}.json").write_text(json.dumps(texts))
        (corpus,) = open_corpora(dataclasses.replace(TINY, sources=f"{tmp_path}/{number}.json"))
        digests.append(corpus.digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "sources: texts='{path}': no such file or directory; check the path"),
        ("One line.", "sources: {path} is too small to hold a part of it out; give more text"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as refusal:
        open_corpora(dataclasses.replace(TINY, sources=str(path)))
    assert str(refusal.value) == reason.format(path=path)


def test_more_tokens_than_the_texts_give_are_refused(settings: PretrainSettings) -> None:
    with pytest.raises(UserError, match=r"^vocab_size=60000: the texts give only [0-9]+ tokens; lower it$"):
        train_tokenizer(open_corpora(settings)[1:], 60_000)
