"""A training small enough for tests, and the texts that it reads."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jaxcram.text.stories import story
from jaxcram.train.pretrain import pretrain
from jaxcram.train.settings import PretrainSettings
from tests.train.tiny import TINY


@pytest.fixture(scope="session")
def novel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of four texts of many lines."""
    folder = tmp_path_factory.mktemp("novels")
    for index in range(4):
        lines = [f"Volume {index}, line {line}: {story(line)}" for line in range(20)]
        (folder / f"{index}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def settings(novel: Path) -> PretrainSettings:
    return dataclasses.replace(
        TINY, sources=f"stories:1,{novel}:9"
    )  # few stories: a tokenizer learns from them


@pytest.fixture(scope="session")
def finished(
    settings: PretrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run of 12 steps without a break, and its summary. Not to be written to."""
    out = tmp_path_factory.mktemp("finished")
    return out, pretrain(dataclasses.replace(settings, out=str(out)))
