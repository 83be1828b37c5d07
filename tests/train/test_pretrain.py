"""Training small decoders: mixture, tokens, windows, and runs that continue to the bit."""

import dataclasses
import json
import math
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer

from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.text.stories import HELD_OUT_SEED, story
from jaxcram.text.tokens import load_tokenizer
from jaxcram.train.data import (
    Stories,
    Stream,
    held_out_batches,
    open_corpora,
    train_tokenizer,
    training_windows,
)
from jaxcram.train.pretrain import learning_rate, next_token_loss, pretrain, window_loss
from jaxcram.train.settings import PretrainSettings, parse_mixture

TINY = PretrainSettings(
    out="unused",
    sources="stories:3,novel.txt:1",
    stream_tokens=20_000,
    held_out_tokens=2_000,
    vocab_size=300,
    width=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_size=8,
    mlp_width=24,
    max_positions=32,
    window=16,
    batch_size=4,
    steps=12,
    learning_rate=1e-2,
    warmup=2,
    decay_share=0.25,
    checkpoint_every=6,
    log_every=3,
)


@pytest.fixture(scope="module")
def novel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of four texts of many lines."""
    folder = tmp_path_factory.mktemp("novels")
    for index in range(4):
        lines = [f"Volume {index}, line {line}: {story(line)}" for line in range(20)]
        (folder / f"{index}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def settings(novel: Path) -> PretrainSettings:
    return dataclasses.replace(TINY, sources=f"stories:3,{novel}:1")


@pytest.fixture(scope="module")
def finished(settings: PretrainSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run of 12 steps without a break."""
    out = tmp_path_factory.mktemp("finished")
    return out, pretrain(dataclasses.replace(settings, out=str(out)))


def test_mixture_shares_sum_to_one_and_colons_in_names_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a:2").mkdir()
    assert parse_mixture(f"stories:3,hub:owner/set:1,{tmp_path}/a:2, plain:4") == {
        "stories": 3 / 9,
        "hub:owner/set": 1 / 9,
        f"{tmp_path}/a:2": 1 / 9,
        "plain": 4 / 9,
    }


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ("", "name a source"),
        ("stories:0", "above 0"),
        ("stories:nan", "above 0"),
        ("stories:much", "'much' in 'stories:much' is not a weight"),
        ("stories:1,stories:2", "stands there twice"),
    ],
)
def test_a_senseless_mixture_is_refused(sources: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        dataclasses.replace(TINY, sources=sources)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 257},
        {"vocab_size": 70_000},
        {"num_kv_heads": 3},
        {"head_size": 7},
        {"max_positions": 8},
        {"max_positions": 24},
        {"max_positions": 48},
        {"warmup": 12},
        {"schedule": "step"},
        {"dtype": "float16"},
        {"learning_rate": 0.0},
        {"held_out_share": 1.0},
        {"steps": 0},
    ],
)
def test_a_senseless_number_is_refused_by_its_name(change: dict) -> None:
    (name, value) = next(iter(change.items()))
    with pytest.raises(UserError, match=f"--{name}={value}: "):
        dataclasses.replace(TINY, **change)


def test_a_source_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.txt")
    with pytest.raises(UserError, match=r"missing\.txt"):
        pretrain(dataclasses.replace(TINY, out=str(tmp_path / "out"), sources=missing))


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


def test_tokenizer_begins_with_bos_and_gives_any_text_back(settings: PretrainSettings) -> None:
    tokenizer = train_tokenizer(open_corpora(settings), 300)
    text = "Zoé paid 5£ — “twice”!\n\tTab.  Two spaces."
    ids = tokenizer.encode(text).ids
    assert tokenizer.get_vocab_size() == 300
    assert ids[0] == tokenizer.token_to_id("<s>") == 0
    assert tokenizer.decode(ids) == text


def test_windows_depend_on_seed_and_step_alone_and_keep_the_shares() -> None:
    one, two = (np.full(100, token, np.uint16) + np.arange(100, dtype=np.uint16) for token in (0, 1000))
    streams = [Stream("one", 0.75, one, one, 1.0), Stream("two", 0.25, two, two, 1.0)]
    settings = dataclasses.replace(TINY, batch_size=400)
    windows = training_windows(streams, settings, 7)
    assert windows.shape == (400, 17)
    assert (np.diff(windows, axis=1) == 1).all()
    assert (windows == training_windows(streams, settings, 7)).all()
    assert (windows != training_windows(streams, settings, 8)).any()
    assert training_windows(streams, settings, 9).shape == (200, 33)  # the last quarter of 12 steps
    share = (windows[:, 0] < 1000).mean()
    assert abs(share - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 400)  # four standard errors


def test_held_out_windows_follow_each_other() -> None:
    tokens = np.arange(16 * 9 + 5, dtype=np.uint16)
    batches = list(held_out_batches(Stream("s", 1.0, tokens, tokens, 1.0), batch=4, length=16))
    assert [batch.shape for batch in batches] == [(4, 17), (4, 17)]
    assert np.concatenate([batch[:, 1:].ravel() for batch in batches]).tolist() == list(range(1, 16 * 8 + 1))


def test_schedules() -> None:
    wsd = learning_rate(dataclasses.replace(TINY, steps=100, warmup=10, decay_share=0.2, learning_rate=1.0))
    steps = [0, 5, 10, 79, 80, 90, 100]
    assert [float(wsd(step)) for step in steps] == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])
    cosine = learning_rate(
        dataclasses.replace(TINY, steps=110, warmup=10, schedule="cosine", learning_rate=1.0)
    )
    assert [float(cosine(step)) for step in (5, 10, 60, 110)] == pytest.approx([0.5, 1, 0.55, 0.1])


def test_a_window_with_a_uniform_model_costs_log_vocabulary(finished: tuple[Path, dict]) -> None:
    decoder = port.load(finished[0])
    decoder.embedding_VxD[...] = np.zeros_like(decoder.embedding_VxD[...])
    loss = next_token_loss(decoder, np.arange(34).reshape(2, 17))
    assert float(loss) == pytest.approx(math.log(300), rel=1e-6)


def test_a_run_learns_and_leaves_a_model_that_loads(
    finished: tuple[Path, dict], settings: PretrainSettings
) -> None:
    out, metrics = finished
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert [row["steps"] for row in rows if "train_loss" in row] == [3, 6, 9, 12]
    assert losses[-1] < losses[0]
    assert metrics["tokens"] == 12 * 4 * 16
    assert metrics == json.loads((out / "metrics.json").read_text())

    decoder, tokenizer = port.load(out), load_tokenizer(out)
    assert metrics["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(decoder))
    assert tokenizer.encode("A fox.")[0] == tokenizer.bos_id == 0
    assert tokenizer.eos_id == 1
    assert (decoder.config.num_heads, decoder.config.num_kv_heads) == (2, 1)

    # The figures shown are those of the model that was saved, up to its rounding to bf16.
    held_out = np.fromfile(out / "tokens" / "0-held-out.bin", np.uint16)
    stream = Stream("stories", 1.0, held_out, held_out, 1.0)
    saved = np.mean([window_loss(decoder, batch) for batch in held_out_batches(stream, batch=2, length=32)])
    figures = metrics["held_out"]["stories"]
    assert saved == pytest.approx(figures["nats_per_token"], abs=2e-3)
    text = Tokenizer.from_file(str(out / "tokenizer.json")).decode(held_out.tolist())
    bits = figures["nats_per_token"] / math.log(2) * len(held_out) / len(text)
    assert figures["bits_per_character"] == pytest.approx(bits, rel=1e-6)


def test_an_interrupted_run_continues_to_the_bit(
    finished: tuple[Path, dict],
    settings: PretrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted = dataclasses.replace(settings, out=str(tmp_path))
    steps = []

    def windows_or_interrupt(streams: list[Stream], settings: PretrainSettings, step: int) -> np.ndarray:
        steps.append(step)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return training_windows(streams, settings, step)

    monkeypatch.setattr("jaxcram.train.pretrain.training_windows", windows_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        pretrain(interrupted)
    metrics = pretrain(interrupted)
    assert steps == [*range(9), *range(6, 12)]  # the checkpoint was taken after six
    whole = finished[1]
    assert metrics["held_out"] == whole["held_out"]
    assert metrics["train_loss"] == whole["train_loss"]
    assert (tmp_path / "model.safetensors").read_bytes() == (finished[0] / "model.safetensors").read_bytes()


def test_a_directory_of_other_settings_is_refused(
    finished: tuple[Path, dict], settings: PretrainSettings
) -> None:
    other = dataclasses.replace(settings, out=str(finished[0]), width=32)
    with pytest.raises(UserError, match="belongs to a run with width = 16, not 32"):
        pretrain(other)


def test_a_length_that_the_past_schedule_contradicts_is_refused(
    finished: tuple[Path, dict], settings: PretrainSettings
) -> None:
    longer = dataclasses.replace(settings, out=str(finished[0]), steps=100)
    with pytest.raises(UserError, match="at step 12 of 12"):
        pretrain(longer)


def test_an_output_directory_that_is_a_file_is_refused(settings: PretrainSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be used"):
        pretrain(dataclasses.replace(settings, out=str(tmp_path / "file")))


def test_the_generator_starts_anew_each_time() -> None:
    stories = Stories(5)
    assert list(islice(stories, 2)) == list(islice(stories, 2)) == [story(5), story(6)]
