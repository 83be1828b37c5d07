"""Whole programs in environments of other people: the same results, or one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxcram.results.reading import load_rows, load_settings
from tests.conftest import ODD_ENVIRONMENT

pytestmark = pytest.mark.slow

MAIN = "import sys; from jaxcram.cli.main import main; sys.exit(main(sys.argv[1:]))"


def started(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environ,
    )


def cram(model: Path, out: Path) -> list[str]:
    short = ("--max_tokens=5", "--learning_rates=1.0", "--max_steps=60", "--max_steps_per_token=30")
    return ["cram", f"--model={model}", "--texts=stories:2", f"--out={out}", *short]


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "run"
    done = started(*cram(tiny_model, out))
    assert done.returncode == 0, done.stderr
    return out


def test_jax_configuration_does_not_change_results(plain, tiny_model, tmp_path):
    done = started(*cram(tiny_model, tmp_path / "run"), **ODD_ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert load_rows(tmp_path / "run").equals(load_rows(plain))
    assert (tmp_path / "run" / "settings.json").read_bytes() == (plain / "settings.json").read_bytes()
    unheeded = " ".join(sorted(name for name in ODD_ENVIRONMENT if name.startswith("JAX_")))
    said = f"jaxcram cram: ignoring variables that could change results: {unheeded}"
    assert done.stderr.splitlines()[0] == said
    assert f"figure    {tmp_path / 'run' / 'figure.png'}" in done.stdout.splitlines()
    assert (tmp_path / "run" / "figure.png").read_bytes() == (plain / "figure.png").read_bytes()


def test_compiler_flags_are_part_of_the_identity_of_a_run(tiny_model, tmp_path):
    out = tmp_path / "run"
    flag = "--xla_allow_excess_precision=false"
    command = cram(tiny_model, out)
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    assert started(*command, XLA_FLAGS=flags).returncode == 0
    assert load_settings(out)["compiler"]["XLA_FLAGS"] == flag
    done = started(*command)
    assert done.returncode == 2
    assert f'compiler.XLA_FLAGS: was "{flag}", is absent' in done.stderr


@pytest.mark.parametrize("program", ["cram", "generate", "pretrain"])
def test_an_unavailable_platform_is_one_line(program, tiny_model, tmp_path):
    commands = {
        "cram": cram(tiny_model, tmp_path / "out"),
        "generate": ["generate", f"--model={tiny_model}", "--prompt=x"],
        "pretrain": ["pretrain", f"--out={tmp_path / 'out'}"],
    }
    done = started(*commands[program], JAX_PLATFORMS="no_such")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"jaxcram {program}: error: JAX_PLATFORMS=no_such: JAX cannot start there (")
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_jax_cannot_read_is_one_line():
    done = started("generate", "--prompt=x", JAX_NUM_CPU_DEVICES="two")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("jaxcram generate: error: JAX cannot read its environment (")
    assert "JAX_NUM_CPU_DEVICES=two" in line


def test_unconnected_processes_are_refused_before_any_work(tiny_model, tmp_path):
    open_mpi_5 = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
    done = started(*cram(tiny_model, tmp_path / "out"), **open_mpi_5)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("jaxcram cram: error: OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1: a launcher ")
    assert not (tmp_path / "out").exists()
