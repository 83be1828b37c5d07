"""A run of a tiny model, and rows as the published code writes them."""

from pathlib import Path

import pytest

from jaxcram import api
from tests.cli.conftest import tiny_model  # noqa: F401

TEXTS = ["one day", "a café"]  # of single bytes, so that the é is two tokens


@pytest.fixture(scope="session")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Run:  # noqa: F811
    """Two texts at two learning rates; some lanes fail, some become exact. Not to be written to."""
    return api.cram(
        api.load_model(tiny_model),
        TEXTS,
        out=tmp_path_factory.mktemp("crammed") / "run",
        learning_rates=(0.01, 1.0),
        max_steps=120,
        max_steps_per_token=60,
        verbose=False,
    )


@pytest.fixture(scope="session")
def exported(run: api.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run as the published data set has it. Not to be written to."""
    out = tmp_path_factory.mktemp("exported") / "out"
    api.export_run(run, out)
    return out
