"""The experiments of the paper in one command: their flags, what is kept, mistakes, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import paper
from common import program
from jaxcram.cli import flags
from jaxcram.cli.main import program_of
from jaxcram.errors import UserError
from tests.waiting import wait_until

TASKS = ("hellaswag_9.jsonl", "arc_easy_9.jsonl", "mmlu_test_9.jsonl", "mmlu_dev.jsonl")
TINY = ["--num_samples=2", "--max_tokens=4", "--learning_rate=1.0"]


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


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"only": ("hellaswog",)}, "--only: 'hellaswog' is unknown; choose from cram, path, around, rates, "),
        ({"items": 0}, "--items=0: at least 1 is needed"),
        ({"grid": 1}, "--grid=1: at least 2 is needed"),
        (
            {"only": ("solutions", "cram")},
            "--only: solutions needs the experiment rates, which is not finished",
        ),
        ({"without": "arc_easy_9.jsonl"}, r"one file arc_easy_\*.jsonl is needed; there is none"),
        (
            {"with": "mmlu_dev_2.jsonl"},
            r"one file mmlu_dev\*.jsonl is needed; there is mmlu_dev.jsonl, mmlu_dev_2",
        ),
        (
            {"json": "missing/records.jsonl"},
            "--json=.*missing/records.jsonl: No such file or directory; name ",
        ),
    ],
)
def test_a_mistake_ends_it_before_anything_runs(monkeypatch, tasks, flags, line):
    monkeypatch.setattr(paper.subprocess, "Popen", None)
    monkeypatch.setattr(paper.subprocess, "run", None)
    if name := flags.pop("without", None):
        (Path(tasks) / name).unlink()
    if name := flags.pop("with", None):
        (Path(tasks) / name).touch()
    if "json" in flags:
        flags["json"] = f"{tasks}/{flags['json']}"
    with pytest.raises(UserError, match=line):
        paper.main(paper.Command(**{"tasks": tasks, "out": f"{tasks}/out", **flags}))


def test_a_home_directory_is_found(monkeypatch, tasks):
    monkeypatch.setenv("HOME", tasks)
    command = paper.Command(out="~/out", tasks="~", json="~/records.jsonl")
    assert (command.out, command.tasks, command.json) == (f"{tasks}/out", tasks, f"{tasks}/records.jsonl")


def test_a_command_that_fails_ends_it_with_its_exit_code(capfd):
    with pytest.raises(SystemExit) as ended:
        paper.run(["cram", "--num_samples=0"])
    assert ended.value.code == 2
    assert "num_samples" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("--model=/data/models/one/", "--model=one"),
        ("/data/run", "run"),
        ("runs/paper/cram", "runs/paper/cram"),
        ("--only=path", "--only=path"),
        ({"runs": ["/a/b/c"], "share": 0.5}, {"runs": ["c"], "share": 0.5}),
    ],
)
def test_records_have_the_last_part_of_absolute_paths(value, shown):
    assert paper.short(value) == shown


@pytest.mark.slow
def test_what_is_found_is_kept_as_records_and_read_again(tmp_path, monkeypatch):
    out, records = tmp_path / "out", tmp_path / "records.jsonl"
    command = [*TINY, "--only=path,cram", f"--out={out}", f"--json={records}"]
    monkeypatch.setattr(sys, "argv", ["paper.py", *command])
    program.start(paper.Command, paper.TOPICS, paper.main, paper.__doc__)
    cram, path = map(json.loads, records.read_text().splitlines())
    assert (cram["benchmark"], cram["experiment"], path["experiment"]) == ("paper", "cram", "path")
    assert path["command"] == ["analyse", "cram"]
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


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_experiment_saves_itself_and_goes_on(tmp_path, kind, code):
    """A terminal sends SIGINT to the command too; SIGTERM is passed on."""
    out = tmp_path / "out"
    command = [sys.executable, paper.__file__, "--num_samples=2", "--only=cram", f"--out={out}"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as child:
        log = out / "cram" / "log.jsonl"
        wait_until(lambda: log.exists() and '"progress"' in log.read_text(), seconds=120)
        (os.killpg if kind == signal.SIGINT else os.kill)(child.pid, kind)
        told = child.communicate(timeout=60)[1]
    assert child.returncode == code
    assert "resume with: jaxcram cram" in told
    assert "Traceback" not in told
    assert list((out / "cram" / "checkpoints" / "state").iterdir())
