"""`jaxcram evaluate` and its `show`, by the real entry point on a tiny model."""

import json
from pathlib import Path

import pytest

from jaxcram import api
from jaxcram.cli.main import main

ITEMS = [
    {"context": text, "endings": ["the end.", "no"], "label": 0, "kind": "story"}
    for text in ("one day", "xyz")
]


@pytest.fixture(scope="module")
def command(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return [
        *("evaluate", f"--model={tiny_model}", "--task=cloze", f"--data={folder / 'items.jsonl'}"),
        *("--learning_rates=1.0", "--max_steps=100", f"--out={folder / 'run'}"),
    ]


@pytest.fixture(scope="module")
def out(command):
    assert main(command) == 0
    return Path(command[-1].removeprefix("--out="))


def test_the_second_start_and_show_print_the_table_and_the_files(command, out, capsys):
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed == (
        f"{api.load_evaluation(out).table()}\n\n"
        f"figure    {out / 'figure.png'} (and .pdf)\n"
        f"crams     {out / 'crams'} (a run of jaxcram cram)\n"
        f"scores    {out / 'scores'} (Parquet, one row per score and ending)\n"
        f"summary   {out / 'summary.json'}\n"
        f"settings  {out / 'settings.json'}\n"
    )
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert main(["show", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert main(["show", str(out / "crams")]) == 0
    assert capsys.readouterr().out.startswith(api.load_run(out / "crams").table())


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
def test_bad_flags_end_in_one_line_and_leave_nothing(command, tmp_path, capsys, flags, message):
    data = command[3].removeprefix("--data=")
    assert main([*command[:-1], f"--out={tmp_path / 'run'}", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(data=data) in line
    assert not (tmp_path / "run").exists()


def test_show_and_decode_say_where_the_crams_of_an_evaluation_are(out, capsys):
    assert main(["decode", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"jaxcram decode: error: {out}: a run of 'evaluate', not of cram; "
        f"give {out / 'crams'}, which it made\n"
    )
    assert main(["show", str(out), "--per_text"]) == 2
    assert "--per_text" in capsys.readouterr().err
    assert main(["show", str(out / "crams"), "--per_text"]) == 0
