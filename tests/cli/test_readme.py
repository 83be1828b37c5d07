"""What the README tells a reader to type is what there is."""

import re
from pathlib import Path
from typing import Any

from jaxcram import api
from jaxcram.cli import main
from jaxcram.results import rows

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_commands_set_up_and_run_the_main_job_and_the_tests():
    first, second, *_ = blocks("bash")
    assert first == "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/jaxcram cram\n"
    assert second == "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest\n"


def test_ci_runs_the_readme_s_test_command_and_ends_in_the_slow_tests():
    install, program = (part.strip().removeprefix(".venv/bin/") for part in blocks("bash")[1].split("&&")[1:])
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert install.replace("-q", "--quiet") in lines
    assert program in lines
    assert lines[-1] == f"{program} -m slow"


def test_the_notebooks_run_and_have_under_ten_lines(tiny_model, tmp_path, monkeypatch, capsys):
    code, analysis = blocks("python")
    assert max(len(code.splitlines()), len(analysis.splitlines())) < 10
    load_model = api.load_model
    monkeypatch.setattr(api, "load_model", lambda: load_model(str(tiny_model)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    run = names["run"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(run.table().splitlines())] == run.table().splitlines()
    assert printed[-2:] == [
        f"{lane.learning_rate} True {lane.text}" for lane in api.decode(run, names["model"])
    ]
    assert run.path.parent == tmp_path / "runs"
    exec(analysis, names)
    assert capsys.readouterr().out.startswith(names["found"].table())
    stages = len(names["points_SxKxD"])
    assert names["walk_Sx2"].shape == (stages, min(2, stages))
    assert (tmp_path / "capacity.pdf").read_bytes().startswith(b"%PDF")


def test_every_program_and_every_column_that_is_named_exists():
    assert set(re.findall(r"^\| `jaxcram (\w+)", README, re.MULTILINE)) == set(main.PROGRAMS)
    table = README.partition("The rows, by name")[2].partition("documents all")[0]
    named = set(
        re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    assert named - rows.COLUMNS.keys() == set()
    assert len(named) == 22


def test_every_config_that_is_named_exists():
    named = re.findall(r"configs/([\w.]+\.flags)", README)
    assert named
    assert all((ROOT / "configs" / name).is_file() for name in named)
