"""The programs, one after another, by the real entry point on a tiny model."""

import datetime
import json
import shutil
from pathlib import Path

import pytest

from jaxcram import api, report
from jaxcram.cli import main
from jaxcram.cram.engine import Engine
from jaxcram.results.directory import RunDirectory
from jaxcram.results.reading import load_rows, load_summary
from jaxcram.results.table import Job

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


def test_the_run_follows_the_flags(run, tiny_model):
    settings = json.loads((run / "settings.json").read_text())
    of_flags = {"model": str(tiny_model), "column": "words", "learning_rates": [0.1, 1.0], "max_steps": 200}
    assert settings | of_flags == settings
    assert {(lane["sample_id"], lane["learning_rate"]) for lane in load_summary(run)["lanes"]} == {
        *((0, 0.1), (0, 1.0), (1, 0.1), (1, 1.0))
    }


def test_the_second_start_and_show_print_table_sample_and_files(run, tiny_model, capsys):
    assert main.main(cram(tiny_model, run.parent)) == 0
    printed = capsys.readouterr().out
    finished, example = api.load_run(run), load_summary(run)["example"]
    assert printed == (
        "\n".join([finished.table(), *report.notes(finished.summary)]) + "\n\n"
        f"sample {example['sample_id']}, learning rate {example['learning_rate']:g}, up to its horizon, "
        f"{example['decode_tokens']} of {len(TEXTS[example['sample_id']])} tokens:\n"
        f"original: {example['original']}\n"
        f"decoded:  {example['original']}\n"
        "identical\n\n"
        f"{report.speed(load_summary(run))}\n\n"
        f"figure    {run / 'figure.png'}\n"
        f"rows      {run / 'rows'} (Parquet, one file per lane, one row per stage)\n"
        f"summary   {run / 'summary.json'}\n"
        f"settings  {run / 'settings.json'}\n"
    )
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG")
    (run / "figure.png").unlink()
    for arguments in (["show", str(run)], ["show", f"--run={run}"]):
        assert main.main(arguments) == 0
        assert capsys.readouterr().out == printed
    assert main.main(["show", str(run), "--per_text"]) == 0
    assert capsys.readouterr().out == printed.replace(finished.table(), finished.table(per_text=True))
    assert main.main(["show", str(run), "--as_published"]) == 0
    tables = finished.table(as_published=True)
    assert capsys.readouterr().out == printed.replace(
        "\n".join([finished.table(), *report.notes(finished.summary)]),
        "\n".join([tables, *report.notes(finished.summary, as_published=True)]),
    )
    assert tables.count("as published") == 2
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_curves_are_drawn_if_there_are_any(run, tiny_model, tmp_path, capsys):
    assert main.main(["show", f"--run={run}", "--curves"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        f"jaxcram show: error: {run}: no finished lane of this run has a curve; cram with log_every, such as "
        "10\n",
    )
    assert main.main([*cram(tiny_model, run.parent), "--log_every=10"]) == 0  # too late: its lanes have ended
    assert "curves" not in capsys.readouterr().out
    assert main.main([*cram(tiny_model, tmp_path), "--log_every=10", "--num_samples=1"]) == 0
    printed, logged = capsys.readouterr().out, tmp_path / "run"
    assert printed.splitlines()[-5:] == [
        f"          {logged / 'curves.png'}",
        f"rows      {logged / 'rows'} (Parquet, one file per lane, one row per stage)",
        f"curves    {logged / 'curves'} (Parquet, one file per lane, one row per logged step)",
        f"summary   {logged / 'summary.json'}",
        f"settings  {logged / 'settings.json'}",
    ]
    (logged / "curves.png").unlink()
    assert main.main(["show", f"--run={logged}", "--curves"]) == 0
    assert capsys.readouterr().out == printed
    assert (logged / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_show_prints_everything_if_the_figure_cannot_be_written(run, capsys):
    assert main.main(["show", f"--run={run}"]) == 0
    printed = capsys.readouterr().out
    (run / "figure.png").unlink()
    (run / "figure.png").mkdir()
    try:
        assert main.main(["show", f"--run={run}"]) == 0
    finally:
        (run / "figure.png").rmdir()
    why = f"could not be drawn: {run / 'figure.png'}: cannot be written (Is a directory); choose another "
    why += "directory"
    assert capsys.readouterr().out == printed.replace(str(run / "figure.png"), why)


@pytest.mark.parametrize("decoder", ["exact", "cached"])
def test_decode_prints_the_horizon_of_every_lane(run, decoder, capsys):
    assert main.main(["decode", f"--run={run}", f"--decoder={decoder}"]) == 0
    printed = capsys.readouterr().out
    horizon = {
        (lane["sample_id"], lane["learning_rate"]): lane["horizon"] for lane in load_summary(run)["lanes"]
    }
    assert printed == (
        "\n\n".join(
            f"sample {sample}, learning rate {rate:g}, seed 0: identical\n"
            f"{TEXTS[sample][: horizon[sample, rate]]}"
            for sample in (0, 1)
            for rate in (0.1, 1.0)
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


def test_an_interrupted_run_prints_how_to_resume_and_resumes(run, tiny_model, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    command = cram(tiny_model, tmp_path)
    write_lane = RunDirectory.write_lane
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_lane", lambda *one: (write_lane(*one), interrupted()))
        assert main.main(command) == 130
    kept = [path.name for path in (tmp_path / "run" / "rows").iterdir()]
    assert len(kept) == 1
    assert (
        "jaxcram cram: interrupted; finished lanes are kept; the same command with the same --out "
        "runs the missing ones\n"
    ) in capsys.readouterr().err
    assert main.main(command) == 0
    columns = ["sample_id", "learning_rate", "stage_seq_len", "steps", "exact"]
    assert load_rows(tmp_path / "run", columns).equals(load_rows(run, columns))


def test_a_run_prints_its_directory_first_and_the_path_of_its_trace(
    tiny_model, tmp_path, capsys, monkeypatch
):
    compute, shown = Engine.chunks, []
    monkeypatch.setattr(
        Engine, "chunks", lambda *own: (shown.append(capsys.readouterr().err), compute(*own))[1]
    )
    command, traces = cram(tiny_model, tmp_path), tmp_path / "traces"
    earlier = traces / "plugins" / "profile" / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "host.xplane.pb").write_bytes(b"")
    assert (
        main.main([*command, "--token_budget=24", "--mesh=lanes:1,model:1", f"--profile_dir={traces}"]) == 0
    )
    assert shown[0].splitlines()[2:] == [
        "texts     2, of 7 to 16, mean 11.5 tokens",
        "lanes     4: 2 texts x 2 learning rates (0.1, 1) x 1 seed",
        "procedure progressive: 1 token, then 1 more per stage; at most 50 steps per stage, 200 per lane",
        "objective cross_entropy, 1 vector per text; AdamW, cosine schedule",
        "passes    1 at once, of 4 x 4, 3 x 8, 2 x 12, 1 x 16 (lanes x tokens)",
        f"out       {tmp_path / 'run'}",
    ]
    (own,) = {file.parent for file in traces.rglob("*.xplane.pb")} - {earlier}
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trace")]
    assert told == [f"trace     {own} (for XProf, TensorBoard or Perfetto)"]


@pytest.mark.slow
def test_pretrain_trains_a_model_that_generate_reads(tmp_path, capsys):
    out = tmp_path / "model"
    sizes = ("vocab_size=280", "width=16", "num_layers=1", "num_heads=2", "num_kv_heads=1", "head_size=8")
    speed = ("mlp_width=16", "max_positions=32", "window=16", "batch_size=2", "steps=4", "warmup=1")
    data = (
        "stream_tokens=4000",
        "held_out_tokens=500",
        "checkpoint_every=2",
        "log_every=2",
        "mesh=lanes:1",
        f"out={out}",
    )
    command = ["pretrain", *(f"--{flag}" for flag in (*sizes, *speed, *data))]
    assert main.main(command) == 0
    metrics = json.loads((out / "summary.json").read_text())
    loss = metrics["held_out"]["stories"]
    assert capsys.readouterr().out == (
        f"model     {out} ({metrics['parameters']} parameters, 4 steps)\n"
        f"held out  stories: {loss['nats_per_token']:.3f} nats per token, "
        f"{loss['bits_per_character']:.3f} bits per character\n"
    )
    assert main.main(["generate", f"--model={out}", "--prompt=Once", "--max_new_tokens=3"]) == 0
    assert capsys.readouterr().out.startswith("Once")
    for program in (["show"], ["decode"]):
        assert main.main([*program, str(out)]) == 2
        assert capsys.readouterr().err == (
            f"jaxcram {program[0]}: error: {out}: a run of 'pretrain', not of cram; give a run of cram\n"
        )
    assert main.main([*command, "--width=24"]) == 2
    assert capsys.readouterr().err == (
        f"jaxcram pretrain: error: {out}: the run has other settings (width: was 16, is 24); choose another "
        "directory or the run's own settings; only steps, checkpoint_every, log_every and mesh may change\n"
    )


def test_a_dry_run_prints_the_outline_and_writes_nothing(run, tiny_model, tmp_path, capsys):
    assert main.main([*cram(tiny_model, tmp_path), "--dry_run"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[0] == (
        f"model     {tiny_model}, float32; 17.5K parameters, 1 layers of width 32"
    )
    assert told.out.splitlines()[3] == "lanes     4: 2 texts x 2 learning rates (0.1, 1) x 1 seed"
    assert told.out.splitlines()[-1] == f"out       {tmp_path / 'run'}"
    assert [file.name for file in tmp_path.iterdir()] == ["texts.jsonl"]
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    assert main.main([*cram(tiny_model, run.parent), "--dry_run"]) == 0
    assert "; 4 are finished\n" in capsys.readouterr().out
    assert main.main([*cram(tiny_model, run.parent), "--dry_run", "--max_steps=7"]) == 2
    assert "the run has other settings (max_steps: was 200, is 7)" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


def test_an_unfinished_run_is_shown_and_decoded_so_far(run, tmp_path, capsys):
    part = tmp_path / "part"
    shutil.copytree(run, part)
    (part / "summary.json").unlink()
    for shard in (part / "rows").glob("sample00001-*"):
        shard.unlink()
    assert main.main(["show", str(part)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "not finished: 2 of 4 lanes have ended"
    assert [line.split()[:3] for line in printed[2:4]] == [["text", "0.1", "1"], ["text", "1", "1"]]
    assert "no example: lanes are decoded when the run is finished" in printed
    assert printed[-3:] == [
        f"figure    {part / 'figure.png'}",
        f"rows      {part / 'rows'} (Parquet, one file per lane, one row per stage)",
        f"settings  {part / 'settings.json'}",
    ]
    assert main.main(["decode", str(part)]) == 0
    assert capsys.readouterr().out.count("identical") == 2
    for shard in (part / "rows").iterdir():
        shard.unlink()
    assert main.main(["show", str(part)]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "not finished: 0 of 4 lanes have ended",
        "no lane has ended yet",
    ]


def test_a_model_that_has_moved_is_given_to_decode(run, tiny_model, tmp_path, capsys):
    moved, settings = tmp_path / "run", json.loads((run / "settings.json").read_text())
    shutil.copytree(run, moved)
    (moved / "settings.json").write_text(json.dumps({**settings, "model": str(tmp_path / "gone")}))
    assert main.main(["decode", str(moved)]) == 2
    assert main.main(["decode", str(moved), f"--model={tiny_model}"]) == 0
    assert capsys.readouterr().out.count("identical") == 4


def test_log_lines_have_times_and_lanes_their_stop_reason(run):
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    times = [datetime.datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert {time.utcoffset() for time in times} == {datetime.timedelta(0)}
    start = next(event for event in events if event["event"] == "start")
    assert (start["lanes"], start["lanes_in_all"], start["versions"]["jaxcram"]) == (4, 4, "0.1.0")
    names = ("horizon", "target_tokens", "steps", "stop_reason")
    assert {
        event["lane"]: [event[name] for name in names] for event in events if event["event"] == "lane"
    } == {
        Job(lane["sample_id"], lane["learning_rate"], lane["seed"]).key: [lane[name] for name in names]
        for lane in load_summary(run)["lanes"]
    }
