"""What is told before a run starts, and while it goes on."""

import dataclasses
import io
import json
import sys

import pytest

from jaxcram import report
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.outline import Outline
from jaxcram.cram.progress import Progress
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.results.directory import RunDirectory

PLAN = Outline(
    out="runs/a",
    model="jaxcram:mini-llama",
    parameters=656_512,
    layers=4,
    width=128,
    dtype="float32",
    devices={"cpu (AMD EPYC)": 2},
    processes=1,
    lengths=(235, 429, 288),
    settings=CramSettings(),
    finished=0,
    saved=0,
    passes=(Bucket(16, 2), Bucket(24, 1)),
    at_once=2,
)


def test_the_outline_of_a_new_run():
    assert report.outline(PLAN) == [
        "model     jaxcram:mini-llama, float32; 657K parameters, 4 layers of width 128",
        "devices   2 x cpu (AMD EPYC)",
        "texts     3, of 235 to 429, mean 317.3 tokens",
        "lanes     12: 3 texts x 4 learning rates (0.01, 0.1, 0.5, 1) x 1 seed",
        "procedure progressive: 1 token, then 1 more per stage; at most 1000 steps per stage, 10000 per lane",
        "objective cross_entropy, 1 vector per text; AdamW, cosine schedule",
        "passes    2 at once, of 2 x 16, 1 x 24 (lanes x tokens)",
        "out       runs/a",
    ]


def test_the_outline_of_a_resumed_run():
    settings = CramSettings(
        stages=StageSettings(mode="full", max_steps=1, full_threshold=0.985),
        seeds=(0, 1),
        learning_rates=(0.1,),
        num_memory=4,
    )
    lengths = tuple([17] * 200)
    plan = dataclasses.replace(
        PLAN,
        parameters=1_711_376_384,
        settings=settings,
        lengths=lengths,
        finished=7,
        saved=3,
        processes=2,
        passes=(),
    )
    assert report.outline(plan) == [
        "model     jaxcram:mini-llama, float32; 1.71B parameters, 4 layers of width 128",
        "devices   2 x cpu (AMD EPYC), in 2 processes",
        "texts     200, of 17 tokens",
        "lanes     400: 200 texts x 1 learning rate (0.1) x 2 seeds; 7 are finished; "
        "3 resume from a checkpoint",
        "procedure full: the whole text at once until 98.5% are right, at most 1 step per lane",
        "objective cross_entropy, 4 vectors per text; AdamW, cosine schedule",
        "passes    their shapes are measured at the start, unless they were before",
        "out       runs/a",
    ]


def test_long_lists_are_cut():
    rates = tuple(0.01 * i for i in range(1, 9))
    passes = tuple(Bucket(length, 1) for length in (16, 24, 32, 48, 64, 80, 96))
    plan = dataclasses.replace(PLAN, settings=CramSettings(learning_rates=rates), passes=passes)
    lanes, passes_line = report.outline(plan)[3], report.outline(plan)[6]
    assert lanes == ("lanes     24: 3 texts x 8 learning rates (0.01, 0.02, 0.03, 0.04, 0.05, ...) x 1 seed")
    assert passes_line == (
        "passes    2 at once, of 1 x 16, 1 x 24, 1 x 32, 1 x 48, ..., 1 x 96 (lanes x tokens)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.4, "0:00:00"), (59.6, "0:01:00"), (90_061, "25:01:01")]
)
def test_a_duration(seconds, text):
    assert report.duration(seconds) == text


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(tmp_path, capsys):
    progress = Progress(lanes=8, alive=6, token_budget=192, remat=False, exact_tokens=41)
    shown = report.Bar(visible=True, clock=lambda: progress.seconds)
    with RunDirectory.open(tmp_path / "run", {}) as directory, shown:
        for now in (0.0, 4.0, 10.5, 12.0):
            progress.seconds, progress.lane_steps = now, int(100 * now)
            progress.left_s = None if now < 5 else 65.0
            progress.note = "a note" if now == 12 else ""
            shown(progress, directory)
    assert capsys.readouterr().err == (
        "2/8 lanes done, 0:00:00 so far, 41 tokens exact, 0 steps/s, ? left\n"
        "2/8 lanes done, 0:00:10 so far, 41 tokens exact, 100 steps/s, 0:01:05 left\n"
        "a note\n"
    )
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(event["event"], event["seconds"], event["left_s"]) for event in logged] == [
        ("progress", 0.0, None),
        ("progress", 10.5, 65.0),
        ("progress", 12.0, 65.0),
    ]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_a_bar_that_counts_finished_lanes_from_the_start(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(lanes=8, alive=6, token_budget=192, remat=False, exact_tokens=41, left_s=65.0)
    with RunDirectory.open(tmp_path / "run", {}) as directory, report.Bar(visible=True) as bar:
        bar(progress, directory)
        progress.alive, progress.seconds, progress.lane_steps = 0, 2.0, 300
        bar(progress, directory)
    first, *_, last = [text.strip() for text in terminal.getvalue().split("\r") if text.strip()]
    assert first == "2/8 lanes done [00:00]"
    assert last == "8/8 lanes done [00:00, 41 tokens exact, 150 steps/s, 0:01:05 left]"
