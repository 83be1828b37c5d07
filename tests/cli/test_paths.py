"""A run is the same run however its path is written, and whatever directory a program is started in."""

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jaxcram import api
from jaxcram.cli import main
from jaxcram.results.reading import load_rows

TEXT = "Once upon"
# No lane ends by itself within the time of a test.
ENDLESS = ("--max_steps=100000000", "--max_steps_per_token=100000000", "--checkpoint_minutes=0.001")


@pytest.fixture
def command(spelt: Callable[[str], str], tiny_model: Path) -> list[str]:
    """A command whose model, texts and run are all spelt the same way."""
    shutil.copytree(tiny_model, Path(spelt("model")).expanduser())
    Path(spelt("texts.txt")).expanduser().write_text(TEXT)
    files = (f"--model={spelt('model')}", f"--texts={spelt('texts.txt')}", f"--out={spelt('run')}")
    return ["cram", *files, "--learning_rates=0.1", "--chunk_passes=4"]


@contextlib.contextmanager
def terminated_after_a_checkpoint(out: Path) -> Iterator[None]:
    """Sends SIGTERM as soon as the run in `out` has saved a checkpoint that was not there before."""

    def steps() -> set[str]:
        return {path.name for path in out.glob("checkpoints/state/*") if path.name.isdecimal()}

    before, over = steps(), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if steps() - before:
                return os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def test_a_run_resumes_from_its_checkpoint(command, spelt, caplog):
    out = Path(spelt("run")).expanduser().absolute()
    for _ in range(2):
        with terminated_after_a_checkpoint(out):
            assert main.main([*command, *ENDLESS]) == 143
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [event["resumed"] for event in events if event["event"] == "start"] == [0, 1]
    assert caplog.messages == []


def test_a_finished_run_is_read_from_another_directory(command, spelt, tmp_path, monkeypatch, capsys):
    caps = ("--max_steps=100", "--max_steps_per_token=50")
    assert main.main([*command, *caps]) == 0
    printed = capsys.readouterr().out
    out = Path(spelt("run")).expanduser().resolve()
    rows = load_rows(out)
    assert {row["text"] for row in rows.to_pylist()} == {TEXT, None}
    assert main.main([*command, *caps]) == 0  # the same command again finds it finished
    assert load_rows(out).equals(rows)
    assert capsys.readouterr().out == printed
    monkeypatch.chdir(tmp_path)
    assert main.main(["decode", f"--run={out}"]) == 0
    (lane,) = api.load_run(out).summary["lanes"]
    line = f"sample 0, learning rate 0.1, seed 0: identical\n{TEXT[: lane['horizon']]}\n"
    assert capsys.readouterr().out == line
