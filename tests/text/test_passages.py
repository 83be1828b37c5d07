"""The 24 prose passages that ship with the package: their form, and that they are our own words."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSAGES = Path(__file__).resolve().parents[2] / "jaxcram" / "text" / "passages.txt"
NUM_PASSAGES = 24
WORDS = range(120, 201)
COPIED = 8  # words in a row that count as copied


def passages() -> list[str]:
    return PASSAGES.read_text(encoding="ascii").removesuffix("\n").split("\n\n")


def words(text: str) -> list[str]:
    """The words without case and punctuation; an apostrophe stays inside its word, a hyphen parts two."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))


def runs(text: str) -> Iterator[tuple[str, ...]]:
    """Every sequence of `COPIED` words in a row."""
    found = words(text)
    return zip(*(found[start:] for start in range(COPIED)), strict=False)


def test_there_are_24_different_passages():
    assert len(passages()) == NUM_PASSAGES
    assert len(set(passages())) == NUM_PASSAGES


def test_the_file_is_ascii_with_one_blank_line_between_paragraphs_of_one_line():
    raw = PASSAGES.read_bytes()
    assert raw.isascii()
    assert b"\r" not in raw
    assert b"\t" not in raw
    assert raw.endswith(b"\n")
    for passage in passages():
        assert len(passage.splitlines()) == 1, f"blank, or more than one line: {passage[:60]!r}"
        assert passage == " ".join(passage.split()), f"stray white space: {passage[:60]!r}"


@pytest.mark.parametrize("index", range(NUM_PASSAGES))
def test_a_passage_has_120_to_200_words(index: int):
    passage = passages()[index]
    # The bounds hold whether a hyphen or a dash parts two words or not.
    assert len(passage.split()) in WORDS
    assert len(words(passage)) in WORDS


def test_no_two_passages_share_a_run_of_words():
    texts = passages()
    together = [run for text in texts for run in set(runs(text))]
    assert len(together) == len(set(together))


def test_runs_see_through_case_punctuation_and_line_ends():
    original = "It was late; the lamps--all nine\nof them--were \u201cout,\u201d he thought."
    copy = "it was late, the LAMPS all nine of them were out"
    assert set(runs(original)) & set(runs(copy))
    assert not set(runs("it was late the lamps all nine")), "seven words make no run of eight"


@pytest.mark.slow
def test_no_eight_words_in_a_row_occur_in_the_novels(shared: Path):
    archive = shared / "corpus" / "novels.tar.xz"
    if not archive.is_file():
        pytest.skip("the novels are absent from ../shared")
    ours = {run for passage in passages() for run in runs(passage)}
    num_novels = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.name.endswith(".txt"):
                continue
            novel = tar.extractfile(member).read().decode("utf-8", errors="replace")
            num_novels += 1
            copied = ours.intersection(runs(novel))
            assert not copied, f"{member.name} has {' '.join(min(copied))!r}"
    assert num_novels > 0, f"{archive} holds no .txt file"
