"""`jaxcram knockout` and its `show`, by the real entry point on a tiny model."""

from pathlib import Path

import pytest

from jaxcram import api
from jaxcram.cli import flags, knockout
from jaxcram.cli.main import main


@pytest.fixture(scope="module")
def swept(evaluated, tmp_path_factory):
    found = tmp_path_factory.mktemp("knockout") / "run"
    assert main(["knockout", str(evaluated), f"--out={found}", "--own_row"]) == 0
    return found


@pytest.mark.slow
def test_the_second_start_and_show_print_the_table_and_the_files(evaluated, swept, capsys):
    assert main(["knockout", str(evaluated), f"--out={swept}", "--own_row"]) == 0
    printed = capsys.readouterr().out
    assert printed == (
        f"{api.load_knockout(swept).table()}\n\n"
        f"figure    {swept / 'layers.png'} (and .pdf)\n"
        f"figure    {swept / 'cumulative.png'} (and .pdf)\n"
        f"sweep     {swept / 'sweep'} (Parquet, one row per item and condition)\n"
        f"masses    {swept / 'masses'} (Parquet, one row per item and layer)\n"
        f"summary   {swept / 'summary.json'}\n"
        f"settings  {swept / 'settings.json'}\n"
    )
    for name in ("layers", "cumulative"):
        assert (swept / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (swept / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert main(["show", str(swept)]) == 0
    assert capsys.readouterr().out == printed
    assert printed.startswith("cloze: 2 items, ")
    assert "with the memory barred from itself too, as published code does:\n" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers=1"], "there is no layer 1; the model has layers 0 to 0"),
        (["--task=mmlu"], "--task: the items are those of {run}; leave it out, or the run"),
        (["--max_steps=3"], "{run} was crammed already; leave out the settings of the procedure"),
        (["--scored=base"], "scored=base must be one of memory, memory_ending, memory_edge"),
        (["--protocols="], "protocols and layers: no condition is named; give one of them"),
        (["--checkpoint_minutes=3"], "--checkpoint_minutes: {run} was crammed already; leave it out"),
    ],
)
def test_bad_flags_end_in_one_line_and_leave_nothing(evaluated, tmp_path, capsys, arguments, message):
    assert main(["knockout", str(evaluated), f"--out={tmp_path / 'run'}", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(run=evaluated) in line
    assert not (tmp_path / "run").exists()


def test_the_run_may_be_left_out():
    assert flags.usage(knockout.Command) == "[RUN] --flags"
    assert flags.parse(knockout.Command, knockout.TOPICS, []).run is None
    assert flags.parse(knockout.Command, knockout.TOPICS, ["here", "--limit=2"]).run == "here"
    assert flags.parse(knockout.Command, knockout.TOPICS, ["--run=here"]).run == "here"


def test_a_run_that_is_none_is_refused(tmp_path, capsys):
    assert main(["knockout", str(tmp_path)]) == 2
    assert "no settings.json in it" in capsys.readouterr().err
    assert list(Path(tmp_path).iterdir()) == []
