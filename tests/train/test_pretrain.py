"""Pretraining: runs that learn, go on to the bit, and leave models that load."""

import dataclasses
import json
import math
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer

from jaxcram.errors import Interrupted, StoppedError, UserError
from jaxcram.models import port
from jaxcram.results.reading import load_log
from jaxcram.text.tokens import load_tokenizer
from jaxcram.train.optimizer import learning_rate
from jaxcram.train.pretrain import next_token_loss, pretrain, save_model, window_loss
from jaxcram.train.settings import PretrainSettings
from jaxcram.train.streams import Stream, held_out_batches
from tests.train.tiny import TINY

pytestmark = pytest.mark.slow


def test_a_source_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.txt")
    with pytest.raises(UserError, match=r"missing\.txt"):
        pretrain(dataclasses.replace(TINY, out=str(tmp_path / "out"), sources=missing))
    assert list(tmp_path.iterdir()) == []


def test_schedules() -> None:
    wsd = learning_rate(dataclasses.replace(TINY, steps=100, warmup=10, decay_share=0.2, learning_rate=1.0))
    steps = [0, 5, 10, 79, 80, 90, 100]
    assert [float(wsd(step)) for step in steps] == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])
    cosine = learning_rate(
        dataclasses.replace(TINY, steps=110, warmup=10, schedule="cosine", learning_rate=1.0)
    )
    assert [float(cosine(step)) for step in (5, 10, 60, 110)] == pytest.approx([0.5, 1, 0.55, 0.1])


def test_a_window_with_a_uniform_model_costs_log_vocabulary(finished: tuple[Path, dict[str, Any]]) -> None:
    decoder = port.load(finished[0])
    decoder.embedding_VxD[...] = np.zeros_like(decoder.embedding_VxD[...])
    loss = next_token_loss(decoder, np.arange(34).reshape(2, 17))
    assert float(loss) == pytest.approx(math.log(300), rel=1e-6)


def test_a_run_learns_and_leaves_a_model_that_loads(
    finished: tuple[Path, dict[str, Any]], settings: PretrainSettings
) -> None:
    out, metrics = finished
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert [row["steps"] for row in rows if "train_loss" in row] == [3, 6, 9, 12]
    assert losses[-1] < losses[0]
    assert metrics["tokens"] == 12 * 4 * 16
    assert metrics == json.loads((out / "summary.json").read_text())

    decoder, tokenizer = port.load(out), load_tokenizer(out)
    assert metrics["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(decoder))
    assert tokenizer.encode("A fox.")[0] == tokenizer.bos_id == 0
    assert tokenizer.eos_id == 1
    assert (decoder.config.num_heads, decoder.config.num_kv_heads) == (2, 1)

    # The figures shown are those of the model that was saved, up to its rounding to bf16.
    held_out = np.fromfile(out / "tokens" / "0-held-out.bin", np.uint16)
    stream = Stream("stories", 1.0, held_out, held_out, 1.0)
    saved = np.mean([window_loss(decoder, batch) for batch in held_out_batches(stream, batch=2, length=32)])
    figures = metrics["held_out"]["stories"]
    assert saved == pytest.approx(figures["nats_per_token"], abs=2e-3)
    text = Tokenizer.from_file(str(out / "tokenizer.json")).decode(held_out.tolist())
    bits = figures["nats_per_token"] / math.log(2) * len(held_out) / len(text)
    assert figures["bits_per_character"] == pytest.approx(bits, rel=1e-6)


def interrupting(number: signal.Signals, after: str) -> Callable[[str], None]:
    """Shows nothing, and sends this process a signal when a line begins with `after`."""
    return lambda line: signal.raise_signal(number) if line.startswith(after) else None


def test_an_interrupted_run_goes_on_to_the_bit(
    finished: tuple[Path, dict[str, Any]],
    settings: PretrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped once before the long windows and once among them; with a relative path."""
    monkeypatch.chdir(tmp_path)
    run = dataclasses.replace(settings, out="run")
    for number, after in ((signal.SIGTERM, "step 3/12"), (signal.SIGINT, "step 9/12")):
        with pytest.raises(Interrupted) as stopped:
            pretrain(run, interrupting(number, after))
        assert (stopped.value.directory, stopped.value.exit_code) == (tmp_path / "run", 128 + number)
    monkeypatch.chdir("/")
    whole, summary = finished[1], pretrain(dataclasses.replace(run, out=str(tmp_path / "run")))
    assert (summary["held_out"], summary["train_loss"]) == (whole["held_out"], whole["train_loss"])
    for file in ("model.safetensors", "tokens/0-train.bin", "tokens/1-held-out.bin", "tokenizer.json"):
        assert (tmp_path / "run" / file).read_bytes() == (finished[0] / file).read_bytes()
    starts = [event["step"] for event in load_log(tmp_path / "run") if event["event"] == "start"]
    assert starts == [0, 4, 10]  # a signal at a report is heeded after the next step


def test_a_finished_run_has_its_summary(
    finished: tuple[Path, dict[str, Any]], settings: PretrainSettings
) -> None:
    assert pretrain(dataclasses.replace(settings, out=str(finished[0]))) == finished[1]


ON_MESHES = """if True:
    import json, sys
    import jax
    from jaxcram.devices.mesh import MeshShape
    from jaxcram.text.tokens import load_tokenizer
    from jaxcram.train import pretrain
    from jaxcram.train.optimizer import make_optimizer
    from jaxcram.train.settings import PretrainSettings

    def cut(tree):
        return [str(leaf.sharding.spec) for leaf in jax.tree.leaves(tree)]

    summaries, cuts = [], []
    for fields in json.loads(sys.argv[1]):
        settings = PretrainSettings(**fields)
        summaries.append(pretrain.pretrain(settings))
        config = pretrain.decoder_config(settings, load_tokenizer(settings.out))
        mesh = MeshShape.parse(settings.mesh).make()
        state = pretrain.init_state(settings, config, make_optimizer(settings), mesh)
        moments = state.optimizer[1][0]
        cuts.append([cut(state.decoder), cut(moments.mu), cut(moments.nu)])
    print(json.dumps([summaries, cuts]))
"""


def test_every_mesh_trains_the_same_model(
    settings: PretrainSettings, tmp_path: Path, own_devices: dict[str, str]
) -> None:
    """To rounding, as sums are taken in another order; moments are cut as their weights are."""
    names = ("lanes:1", "lanes:4", "lanes:2,model:2", "lanes:2,fsdp:2")
    wider = dataclasses.replace(settings, num_heads=4, num_kv_heads=2, batch_size=8, steps=6)
    asked = [
        dataclasses.asdict(dataclasses.replace(wider, out=str(tmp_path / name), mesh=name)) for name in names
    ]
    done = subprocess.run(
        [sys.executable, "-c", ON_MESHES, json.dumps(asked)],
        **{"capture_output": True, "text": True, "check": True},
        env=own_devices | {"JAX_NUM_CPU_DEVICES": "4"},
    )
    summaries, cuts = json.loads(done.stdout)
    assert all(weights == mean == square for weights, mean, square in cuts)
    assert [sum("model" in leaf or "fsdp" in leaf for leaf in weights) for weights, *_ in cuts] == [
        0,
        0,
        8,
        11,
    ]
    losses = [summary["held_out"]["stories"]["nats_per_token"] for summary in summaries]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)
    whole, *others = [jax.tree.leaves(port.load(tmp_path / name)) for name in names]
    for other in others:
        for one, two in zip(whole, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-2, atol=2e-3)  # of bf16


def refusal(settings: PretrainSettings) -> str:
    with pytest.raises(UserError) as refused:
        pretrain(settings)
    return str(refused.value)


def test_other_settings_and_other_texts_are_refused(
    finished: tuple[Path, dict[str, Any]], settings: PretrainSettings, novel: Path, tmp_path: Path
) -> None:
    """Named each; the same texts elsewhere are the same."""
    out = finished[0]
    shutil.copytree(novel, tmp_path / "moved")
    moved = dataclasses.replace(settings, out=str(out), sources=f"stories:1,{tmp_path}/moved:9")
    assert pretrain(moved) == finished[1]
    (tmp_path / "moved" / "2.txt").write_text("Another volume.\n" * 99)
    allowed = (
        "choose another directory or the run's own settings; only steps, checkpoint_every, log_every and "
        "mesh may change"
    )
    assert refusal(moved) == (
        f"{out}: the run has other settings (sources: the texts of {tmp_path}/moved have changed); {allowed}"
    )
    other = dataclasses.replace(settings, out=str(out), width=32, sources=f"stories:1,{novel}:1")
    assert refusal(other) == (
        f"{out}: the run has other settings (shares: was [0.1, 0.9], is [0.5, 0.5]; width: was 16, is 32); "
        f"{allowed}"
    )


def test_a_run_of_an_earlier_version_is_refused_and_left_as_it_is(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(dataclasses.asdict(settings)))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert refusal(dataclasses.replace(settings, out=str(tmp_path))) == (
        f"{tmp_path}: no run of pretrain that this version can continue; choose another directory"
    )
    assert json.loads((tmp_path / "settings.json").read_text()) == dataclasses.asdict(settings)
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights"


def test_a_length_that_the_past_schedule_contradicts_is_refused(
    finished: tuple[Path, dict[str, Any]], settings: PretrainSettings
) -> None:
    longer = dataclasses.replace(settings, out=str(finished[0]), steps=100)
    assert "is at step 12 of 12, and its learning rate already depends on that" in refusal(longer)


def test_windows_that_do_not_spread_over_the_devices_are_refused(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    uneven = dataclasses.replace(settings, out=str(out), mesh="lanes:3")
    assert "lanes:3" in refusal(uneven)
    assert not out.exists()


def test_an_output_directory_that_is_a_file_is_refused(settings: PretrainSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be written"):
        pretrain(dataclasses.replace(settings, out=str(tmp_path / "file")))


def test_a_model_that_the_disk_does_not_take_leaves_the_one_before(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    decoder = port.load(finished[0])
    save_model(decoder, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limit[1]))  # a write past it fails midway
    try:
        with pytest.raises(StoppedError) as stopped:
            save_model(decoder, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert str(stopped.value) == (
        f"{tmp_path}: cannot be written (File too large); free disk space, then start the same command "
        "again: finished results are kept"
    )
    save_model(decoder, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert sorted(before) == ["config.json", "model.safetensors"]
