"""The experiments of the paper in one command: their flags, what is kept, interruption."""

import json
import re
import sys
from pathlib import Path

import pytest

import paper
from common import program
from jaxcram.cli import flags
from jaxcram.cli.main import program_of
from jaxcram.errors import UserError

TASKS = ("hellaswag_9.jsonl", "arc_easy_9.jsonl", "mmlu_test_9.jsonl", "mmlu_dev.jsonl")


@pytest.fixture
def tasks(tmp_path):
    for name in TASKS:
        (tmp_path / name).touch()
    return str(tmp_path)


def test_every_experiment_is_a_command_that_its_program_takes(tasks):
    command = paper.Command(model="models/one", dtype="bfloat16", tasks=tasks, out="runs/paper")
    made = {name: make() for name, make in paper.experiments(command).items()}
    listed = re.findall(r"^    ((?:[a-z_]+(?:, )?)+)  +", paper.__doc__.split("\n\n    cram", 1)[1], re.M)
    assert list(made) == ["cram", *(name for line in listed for name in line.split(", "))]
    for name, (of, *arguments) in made.items():
        module = program_of(of)
        flags.parse(module.Command, module.TOPICS, [*arguments, f"--out=runs/paper/{name}"])
    assert made["knockout"] == ["knockout", "runs/paper/hellaswag", "--dtype=bfloat16", "--limit=64"]
    assert f"--data={tasks}/mmlu_test_9.jsonl" in made["mmlu_full_prefix"]
    assert made["mmlu_full_prefix"][-2:] == [f"--shots_data={tasks}/mmlu_dev.jsonl", "--limit=4"]
    without = paper.experiments(paper.Command())["mmlu_random"]()
    assert without == ["evaluate", "--learning_rates=0.1", "--task=mmlu", "--generative=random", "--limit=64"]


def test_a_mistake_ends_it_before_anything_runs(tasks):
    with pytest.raises(UserError, match="--only: 'hellaswog' is unknown; choose from cram, path, "):
        paper.Command(only=("hellaswog",))
    (Path(tasks) / TASKS[1]).unlink()
    with pytest.raises(UserError, match=r"--tasks=.*: there is no arc_easy_\*.jsonl"):
        paper.main(paper.Command(tasks=tasks))


def test_a_command_that_fails_ends_it(capfd):
    with pytest.raises(UserError, match="jaxcram cram ended with 2; the same command goes on"):
        paper.run(["cram", "--num_samples=0"])
    assert "num_samples" in capfd.readouterr().err


@pytest.mark.slow
def test_what_is_found_is_kept_as_records_and_read_again(tmp_path, monkeypatch, capfd):
    out, records = tmp_path / "out", tmp_path / "records.jsonl"
    command = ["--num_samples=2", "--max_tokens=4", "--learning_rate=1.0", "--only=path,cram"]
    monkeypatch.setattr(sys, "argv", ["paper.py", *command, f"--out={out}", f"--json={records}"])
    program.start(paper.Command, paper.TOPICS, paper.main, paper.__doc__)
    cram, path = map(json.loads, records.read_text().splitlines())
    assert (cram["benchmark"], cram["experiment"], path["experiment"]) == ("paper", "cram", "path")
    assert path["command"] == ["analyse", "cram", "--out=path"]
    assert cram["found"]["mode"] == "progressive"
    assert "lanes" not in cram["found"]
    column = next(one for one in path["found"]["columns"] if one["learning_rate"] == 1.0)
    assert column["run"] == "cram"
    summary = json.loads((out / "cram" / "summary.json").read_text())
    horizons = [lane["horizon"] for lane in summary["lanes"]]
    assert column["trajectory"]["horizon"]["mean"] == sum(horizons) / 2
    assert str(tmp_path) not in records.read_text()
    program.start(paper.Command, paper.TOPICS, paper.main, paper.__doc__)
    again = json.loads(records.read_text().splitlines()[2])
    assert again["found"] == cram["found"]
