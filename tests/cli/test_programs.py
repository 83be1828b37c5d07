"""The programs, one after another, by the real entry point on a tiny model."""

import json
from pathlib import Path

import pytest

from jaxcram import api, report
from jaxcram.cli import main
from jaxcram.cram.run import Run
from jaxcram.results import load_rows, load_summary

pytestmark = pytest.mark.slow

TEXTS = ["Once upon a time", "The end"]


def cram(model: Path, folder: Path) -> list[str]:
    (folder / "texts.jsonl").write_text("".join(json.dumps({"words": text}) + "\n" for text in TEXTS))
    return [
        *("cram", f"--model={model}", f"--texts={folder / 'texts.jsonl'}", "--column=words"),
        *(
            f"--out={folder / 'run'}",
            "--learning_rates=0.1,1.0",
            "--max_steps=200",
            "--max_steps_per_token=50",
        ),
    ]


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crammed")
    assert main.main(cram(tiny_model, folder)) == 0
    return folder / "run"


def test_the_run_is_that_of_the_flags(run, tiny_model):
    settings = json.loads((run / "settings.json").read_text())
    of_flags = {"model": str(tiny_model), "column": "words", "learning_rates": [0.1, 1.0], "max_steps": 200}
    assert settings | of_flags == settings
    assert {(lane["sample_id"], lane["learning_rate"]) for lane in load_summary(run)["lanes"]} == {
        *((0, 0.1), (0, 1.0), (1, 0.1), (1, 1.0))
    }


def test_the_second_start_and_show_print_table_sample_and_files(run, tiny_model, capsys):
    assert main.main(cram(tiny_model, run.parent)) == 0
    printed = capsys.readouterr().out
    example = load_summary(run)["example"]
    assert printed == (
        f"{api.load_run(run).table()}\n\n"
        f"sample {example['sample_id']}, learning rate {example['learning_rate']:g}, up to its horizon:\n"
        f"original: {example['original']}\n"
        f"decoded:  {example['original']}\n"
        "identical\n\n"
        f"{report.speed(load_summary(run))}\n\n"
        f"figure    {run / 'figure.png'}\n"
        f"rows      {run / 'rows'} (Parquet, a file a lane, a row a stage)\n"
        f"summary   {run / 'summary.json'}\n"
        f"settings  {run / 'settings.json'}\n"
    )
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG")
    (run / "figure.png").unlink()
    assert main.main(["show", f"--run={run}"]) == 0
    assert capsys.readouterr().out == printed
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_show_prints_all_where_the_figure_cannot_be_written(run, capsys):
    assert main.main(["show", f"--run={run}"]) == 0
    printed = capsys.readouterr().out
    (run / "figure.png").unlink()
    (run / "figure.png").mkdir()
    try:
        assert main.main(["show", f"--run={run}"]) == 0
    finally:
        (run / "figure.png").rmdir()
    why = (
        f"none could be drawn: {run / 'figure.png'}: cannot be written (Is a directory); choose another --out"
    )
    assert capsys.readouterr().out == printed.replace(str(run / "figure.png"), why)


@pytest.mark.parametrize("decoder", ["exact", "cached"])
def test_decode_prints_the_horizon_of_every_lane(run, decoder, capsys):
    assert main.main(["decode", f"--run={run}", f"--decoder={decoder}"]) == 0
    printed = capsys.readouterr().out
    lanes = [lane for lane in load_summary(run)["lanes"] if lane["horizon"]]
    assert (
        printed
        == "\n\n".join(
            f"sample {lane['sample_id']}, learning rate {lane['learning_rate']:g}, seed 0: identical\n"
            f"{TEXTS[lane['sample_id']][: lane['horizon']]}"
            for lane in lanes
        )
        + "\n"
    )


def test_decode_filters(run, capsys):
    (horizon,) = (
        lane["horizon"]
        for lane in load_summary(run)["lanes"]
        if (lane["sample_id"], lane["learning_rate"]) == (1, 0.1)
    )
    assert main.main(["decode", f"--run={run}", "--sample_id=1", "--learning_rate=0.1"]) == 0
    line = "sample 1, learning rate 0.1, seed 0: identical"
    assert capsys.readouterr().out == f"{line}\n{TEXTS[1][:horizon]}\n"
    assert main.main(["decode", f"--run={run}", "--sample_id=1", "--learning_rate=3"]) == 2
    assert capsys.readouterr().err == (
        f"jaxcram decode: error: no lane of {run} has --sample_id=1 and --learning_rate=3.0; "
        "look at its summary.json\n"
    )


def test_generate_prints_prompt_and_continuation(shared, capsys):
    model = shared / "models" / "stories260K"
    assert main.main(["generate", f"--model={model}", "--prompt=Zoo", "--max_new_tokens=60"]) == 0
    story = (
        "Zoo was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, "
        "red ball. She wanted to play with it, but she didn't want to play with it."
    )
    assert capsys.readouterr().out.startswith(story)


def test_an_interrupted_run_says_how_to_go_on_and_does(run, tiny_model, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    command = cram(tiny_model, tmp_path)
    write_lane = api.RunDirectory.write_lane
    with monkeypatch.context() as patch:
        patch.setattr(api.RunDirectory, "write_lane", lambda *one: (write_lane(*one), interrupted()))
        assert main.main(command) == 130
    kept = [path.name for path in (tmp_path / "run" / "rows").iterdir()]
    assert len(kept) == 1
    assert (
        "jaxcram cram: interrupted; finished lanes are kept, and the same command with the same --out "
        "finishes what is missing\n"
    ) in capsys.readouterr().err
    assert main.main(command) == 0
    columns = ["sample_id", "learning_rate", "stage_seq_len", "steps", "exact"]
    assert load_rows(tmp_path / "run", columns).equals(load_rows(run, columns))


def test_a_run_says_where_it_goes_before_it_computes_and_where_its_own_trace_lies(
    tiny_model, tmp_path, capsys, monkeypatch
):
    compute, shown = Run.chunks, []
    monkeypatch.setattr(Run, "chunks", lambda *own: (shown.append(capsys.readouterr().err), compute(*own))[1])
    command, traces = cram(tiny_model, tmp_path), tmp_path / "traces"
    earlier = traces / "plugins" / "profile" / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "host.xplane.pb").write_bytes(b"")
    assert main.main([*command, f"--profile_dir={traces}"]) == 0
    assert shown == [f"cramming into {tmp_path / 'run'}\n"]
    (own,) = {file.parent for file in traces.rglob("*.xplane.pb")} - {earlier}
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trace")]
    assert told == [f"trace     {own} (for XProf, TensorBoard or Perfetto)"]


def test_pretrain_trains_a_model_that_generate_reads(tmp_path, capsys):
    out = tmp_path / "model"
    sizes = ("vocab_size=280", "width=16", "num_layers=1", "num_heads=2", "num_kv_heads=1", "head_size=8")
    speed = ("mlp_width=16", "max_positions=32", "window=16", "batch_size=2", "steps=4", "warmup=1")
    data = ("stream_tokens=4000", "held_out_tokens=500", "checkpoint_every=2", "log_every=2", f"out={out}")
    command = ["pretrain", *(f"--{flag}" for flag in (*sizes, *speed, *data))]
    assert main.main(command) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    loss = metrics["held_out"]["stories"]
    assert capsys.readouterr().out == (
        f"model     {out} ({metrics['parameters']} parameters, 4 steps)\n"
        f"held out  stories: {loss['nats_per_token']:.3f} nats a token, "
        f"{loss['bits_per_character']:.3f} bits a character\n"
    )
    assert main.main(["generate", f"--model={out}", "--prompt=Once", "--max_new_tokens=3"]) == 0
    assert capsys.readouterr().out.startswith("Once")
    assert main.main([*command, "--width=24"]) == 2
    assert capsys.readouterr().err == (
        f"jaxcram pretrain: error: --out={out}: belongs to a run with width = 16, not 24; "
        "choose another directory\n"
    )
