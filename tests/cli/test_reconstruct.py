"""`jaxcram reconstruct` and its `show`, by the real entry point on a tiny model."""

from pathlib import Path

import pytest

from jaxcram import api
from jaxcram.cli.main import main


@pytest.fixture(scope="module")
def command(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("reconstructed")
    (folder / "texts.txt").write_text("Once upon\n\nThe end")
    return [
        *("reconstruct", f"--model={tiny_model}", f"--texts={folder / 'texts.txt'}", "--max_tokens=4"),
        *(
            "--learning_rates=1.0",
            "--max_steps=9",
            "--min_tokens=4",
            "--token_budget=32",
            f"--out={folder / 'out'}",
        ),
    ]


@pytest.fixture(scope="module")
def out(command):
    assert main(command) == 0
    return Path(command[-1].removeprefix("--out="))


@pytest.mark.slow
def test_the_second_start_and_show_print_table_and_files(command, out, capsys):
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed == (
        f"{api.load_reconstructions(out).table()}\n\n"
        f"figure    {out / 'figure.png'} (and .pdf)\n"
        f"rows      {out / 'reconstruction.parquet'} (Parquet, one row per lane)\n"
        f"run       {out / 'full_0.99'}\n"
        f"run       {out / 'full'}\n"
        f"run       {out / 'progressive'}\n"
        f"summary   {out / 'summary.json'}\n"
        f"settings  {out / 'settings.json'}\n"
    )
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert main(["show", str(out)]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.slow
def test_runs_are_measured_together(out, tmp_path, capsys):
    runs = [str(out / "full"), str(out / "progressive")]
    assert main(["reconstruct", *runs, f"--out={tmp_path / 'both'}", "--limit=1"]) == 0
    rows = api.load_reconstructions(tmp_path / "both").rows()
    assert rows["setup"].to_pylist() == ["full", "progressive"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the directory of a run, or texts to cram with --texts=TEXTS, such as --texts=bundled"),
        (
            ["a", "--texts=bundled"],
            "give the directory of a run, or texts to cram with --texts=TEXTS, not both",
        ),
        (["a", "--max_steps=7"], "--max_steps: a run has been crammed with its own; leave it out"),
        (["a", "--max_tokens=7"], "--max_tokens: a run has been crammed with its own; leave it out"),
        (["a", "--mode=full"], "Unknown command line flag 'mode'. Did you mean: model"),
        (
            ["--texts=bundled", "--full_threshold=0"],
            "full_threshold 0.0 must be greater than 0 and at most 1",
        ),
        (
            ["--texts=bundled", "--full_threshold=1"],
            "full_threshold 1.0: full cramming would be done twice; choose one below 1, such as 0.99",
        ),
        (
            ["no/such/run"],
            "no/such/run: no settings.json in it; it is not a run of jaxcram; give the directory of one",
        ),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main(["reconstruct", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", f"jaxcram reconstruct: error: {message}")
