"""`jaxcram evaluate` and its `show`, by the real entry point on a tiny model."""

import pytest

from jaxcram import api
from jaxcram.cli.main import main


def test_the_second_start_and_show_print_the_table_and_the_files(evaluate_command, evaluated, capsys):
    assert main(evaluate_command) == 0
    printed = capsys.readouterr().out
    assert printed == (
        f"{api.load_evaluation(evaluated).table()}\n\n"
        f"figure    {evaluated / 'figure.png'} (and .pdf)\n"
        f"crams     {evaluated / 'crams'} (a run of jaxcram cram)\n"
        f"scores    {evaluated / 'scores'} (Parquet, one row per score and ending)\n"
        f"summary   {evaluated / 'summary.json'}\n"
        f"settings  {evaluated / 'settings.json'}\n"
    )
    assert (evaluated / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (evaluated / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert main(["show", str(evaluated)]) == 0
    assert capsys.readouterr().out == printed
    assert main(["show", str(evaluated / "crams")]) == 0
    assert capsys.readouterr().out.startswith(api.load_run(evaluated / "crams").table())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--limit=3"], "limit=3: data={data} has only 2 items; lower it"),
        (
            ["--task=clozed"],
            "task=clozed: no such task; there are hellaswag, arc_easy, ",
        ),
        (["--samples=0,7"], "samples: 7 is not an id of data={data}; ids are row numbers from 0"),
        (
            ["--learning_rates=0.1,1"],
            "learning_rates 0.1, 1.0: every context is crammed once",
        ),
        (["--samples=a"], "'a' is not a whole number"),
    ],
)
def test_bad_flags_end_in_one_line_and_leave_nothing(evaluate_command, tmp_path, capsys, flags, message):
    data = evaluate_command[3].removeprefix("--data=")
    assert main([*evaluate_command[:-1], f"--out={tmp_path / 'run'}", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(data=data) in line
    assert not (tmp_path / "run").exists()


def test_show_and_decode_say_where_the_crams_of_an_evaluation_are(evaluated, capsys):
    assert main(["decode", str(evaluated)]) == 2
    assert capsys.readouterr().err == (
        f"jaxcram decode: error: {evaluated}: a run of 'evaluate', not of cram; "
        f"give {evaluated / 'crams'}, which it made\n"
    )
    assert main(["show", str(evaluated), "--per_text"]) == 2
    assert "--per_text" in capsys.readouterr().err
    assert main(["show", str(evaluated / "crams"), "--per_text"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=mmlu", "--num_shots=5"], "num_shots=5: endings are scored without solved questions"),
        (["--shots_data=a.jsonl"], "shots_data=a.jsonl: endings are scored without solved questions"),
    ],
)
def test_solved_questions_that_nothing_would_read_are_refused(arguments, message, tmp_path, capsys):
    assert main(["evaluate", f"--out={tmp_path / 'run'}", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"jaxcram evaluate: error: {message}; leave it out, or give generative"
    assert not (tmp_path / "run").exists()
