"""Settings of a pretraining: the mixture, and numbers that make no sense."""

import dataclasses
from pathlib import Path

import pytest

from jaxcram.errors import UserError
from jaxcram.train.settings import is_hub, parse_mixture
from tests.train.tiny import TINY


def test_mixture_shares_sum_to_one_and_colons_in_names_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a:2").mkdir()
    spec = f"stories:3,hub:owner/set:1,{tmp_path}/a:2, plain:3,hub:a/b:config:2,c/d:config,passages:4"
    assert parse_mixture(spec) == {
        "stories": 3 / 15,
        "hub:owner/set": 1 / 15,
        f"{tmp_path}/a:2": 1 / 15,
        "plain": 3 / 15,
        "hub:a/b:config": 2 / 15,
        "c/d:config": 1 / 15,
        "passages": 4 / 15,
    }


def test_what_is_no_keyword_and_not_there_can_only_be_of_the_hub(tmp_path: Path) -> None:
    names = ["stories", "passages", "bundled", str(tmp_path), "~", "hub:a/b", "a/b", "hub:a/b:config"]
    assert [name for name in names if is_hub(name)] == ["hub:a/b", "a/b", "hub:a/b:config"]


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
    with pytest.raises(UserError, match=f"^{name}={value}: "):
        dataclasses.replace(TINY, **change)
