"""A run is its contents: what extends it goes on, what changes it is refused with what differs."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from jaxcram import api
from jaxcram.errors import UserError
from jaxcram.models.digest import PIECE, PIECES, WHOLE, weights_digest
from jaxcram.models.tensors import open_tensors
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.reading import load_settings
from jaxcram.results.rows import ROWS
from tests.cli.conftest import tiny_model  # noqa: F401

QUICK = {"max_tokens": 4, "max_steps": 6, "warmup_steps": 2, "verbose": False, "checkpoint_minutes": 0.0}
TEXTS = ["The lamp was lit.", "Nobody came to the house."]


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory):  # noqa: F811
    """A finished run of two texts and one rate, its model and its texts; not to be written to."""
    folder = tmp_path_factory.mktemp("identity")
    shutil.copytree(tiny_model, folder / "model")
    (folder / "texts.txt").write_text("\n\n".join(TEXTS))
    api.cram(folder / "model", str(folder / "texts.txt"), out=folder / "run", learning_rates=0.5, **QUICK)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it all, elsewhere: what a run records of paths is no longer true there."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def again(folder: Path, **changed) -> api.Run:
    options = {"learning_rates": 0.5, **QUICK, **changed}
    return api.cram(folder / "model", str(folder / "texts.txt"), out=folder / "run", **options)


def refused(folder: Path, **changed) -> str:
    before = {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()}
    with pytest.raises(UserError) as refusal:
        again(folder, **changed)
    after = {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()}
    assert after == before, "a refused start leaves a run as it was"
    begin, _, end = str(refusal.value).partition("the run has other settings (")
    assert begin == f"{folder / 'run'}: ", str(refusal.value)
    return end.partition("); choose another directory or the run's own settings")[0]


def shards(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "run" / "rows").iterdir()}


def test_the_same_contents_under_another_path_are_the_same_run(folder):
    before = shards(folder)
    run = again(folder)
    assert shards(folder) == before
    assert run.settings["texts"] == str(folder / "texts.txt")
    assert run.settings["model"] == str(folder / "model")


def test_rates_seeds_and_texts_extend_a_finished_run_and_its_rows_stay(folder):
    before = shards(folder)
    (folder / "texts.txt").write_text("\n\n".join([*TEXTS, "A third one."]))
    run = again(folder, learning_rates=(0.5, 0.1), seeds=(0, 7))
    lanes = [(lane["sample_id"], lane["learning_rate"], lane["seed"]) for lane in run.summary["lanes"]]
    assert sorted(lanes) == [(s, lr, seed) for s in range(3) for lr in (0.1, 0.5) for seed in (0, 7)]
    assert before.items() <= shards(folder).items()
    assert run.settings["learning_rates"] == [0.5, 0.1]
    assert sorted(run.settings["contents"]["texts"]) == ["0", "1", "2"]
    assert refused(folder, learning_rates=(0.5, 0.1)) == "seeds: 7 missing"


def test_fewer_texts_or_rates_are_refused(folder):
    assert refused(folder, learning_rates=(0.1, 0.2)) == "learning_rates: 0.5 missing"
    assert refused(folder, num_samples=1) == "texts: sample 1, 'Nobo', missing"
    assert refused(folder, offset=1) == "texts: sample 0, 'The ', missing"


def test_a_text_that_was_edited_is_refused(folder):
    (folder / "texts.txt").write_text("\n\n".join([TEXTS[0], "Somebody came to the house."]))
    assert refused(folder) == "texts: sample 1 was 'Nobo', is 'Some'"


def test_a_text_that_was_edited_after_its_target_is_the_same_target(folder):
    (folder / "texts.txt").write_text("\n\n".join([TEXTS[0], "Nobody went to the house."]))
    again(folder)


def test_an_inserted_text_shifts_those_after_it(folder):
    (folder / "texts.txt").write_text("\n\n".join([TEXTS[0], "A new one.", TEXTS[1]]))
    assert refused(folder) == "texts: sample 1 was 'Nobo', is 'A ne'"


def test_a_setting_that_changed_is_named_alone(folder):
    assert refused(folder, max_steps=7) == "max_steps: was 6, is 7"


def test_other_weights_are_refused_by_every_program(folder):
    file = folder / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    save_file(tensors, file)
    assert refused(folder) == "model: different weights"
    with pytest.raises(
        UserError, match=r"is not the model that the run was made with \(model: different weights\)"
    ):
        api.decode(folder / "run", api.load_model(folder / "model"))


def test_another_tokenizer_or_config_is_refused(folder):
    config = folder / "model" / "config.json"
    content = config.read_text()
    config.write_text(json.dumps(json.loads(content) | {"rms_norm_eps": 1e-5, "transformers_version": "9"}))
    assert refused(folder) == "model: config.norm_eps was 1e-06, is 1e-05"
    config.write_text(json.dumps(json.loads(content) | {"transformers_version": "9"}))
    again(folder)  # that field changes nothing
    tokenizer = folder / "model" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"decoder":', '"decoder" :'))
    assert refused(folder) == "model: different tokenizer"


def test_rows_of_another_run_among_those_of_this_are_refused(folder, made, tiny_model, tmp_path):  # noqa: F811
    other = tmp_path / "other"
    api.cram(tiny_model, ["Not this."], out=other, learning_rates=0.5, **QUICK)
    shard = folder / "run" / "rows" / "sample00000-lr0.5-seed0.parquet"
    shutil.copy(other / "rows" / shard.name, shard)
    assert refused(folder) == f"rows/{shard.name}: text was 'Not ', is 'The '"
    shutil.copy(made / "run" / "rows" / shard.name, shard)
    api.cram(tiny_model, ["Not this."], out=other, learning_rates=(0.5, 0.1), **QUICK)
    shutil.copy(other / "rows" / "sample00000-lr0.1-seed0.parquet", shard.parent)
    assert refused(folder) == "rows/sample00000-lr0.1-seed0.parquet: not one of this start's lanes"


def compact(run: Path) -> None:
    with RunDirectory.open(run, load_settings(run)) as directory:
        directory.compact(ROWS)


def test_a_compacted_run_is_read_decoded_and_extended_as_before(folder, made):
    run = api.load_run(folder / "run")
    before, table, texts = run.rows(), run.table(), api.decode(run)
    compact(run.path)
    group = shards(folder)
    assert list(group) == ["group-00001.parquet"]
    assert (run.rows().equals(before), run.table(), api.decode(run)) == (True, table, texts)
    again(folder)
    assert shards(folder) == group
    run = again(folder, seeds=(0, 7))
    added = {f"sample0000{sample}-lr0.5-seed7.parquet" for sample in (0, 1)}
    assert shards(folder).keys() == group.keys() | added
    extended = run.rows().drop_columns("model_checkpoint")
    lanes = [(lane["sample_id"], lane["seed"]) for lane in run.summary["lanes"]]
    assert sorted(lanes) == [(0, 0), (0, 7), (1, 0), (1, 7)]
    (run.path / "rows" / "group-00001.parquet").write_bytes(b"")
    run = again(folder, seeds=(0, 7))  # what the damaged shard had is done again
    assert shards(folder).keys() == {"group-00001.unreadable", *added, *shards(made)}
    assert run.rows().drop_columns("model_checkpoint").equals(extended)


def test_rows_of_another_run_in_a_group_are_refused(folder, tiny_model, tmp_path):  # noqa: F811
    other = tmp_path / "other"
    api.cram(tiny_model, ["The lamp.", "Not this."], out=other, learning_rates=0.5, **QUICK)
    for run in (folder / "run", other):
        compact(run)
    shutil.copy(other / "rows" / "group-00001.parquet", folder / "run" / "rows")
    assert refused(folder) == "rows/group-00001.parquet: text was 'Not ', is 'Nobo'"


def test_a_missing_lane_is_run_and_the_others_are_kept(folder):
    before = shards(folder)
    shard = folder / "run" / "rows" / "sample00001-lr0.5-seed0.parquet"
    shard.unlink()
    (folder / "run" / "summary.json").unlink()
    again(folder)
    then, now = (
        pq.read_table(file).drop_columns("model_checkpoint")
        for file in (io.BytesIO(before[shard.name]), shard)
    )
    assert now.equals(then)
    assert shards(folder)["sample00000-lr0.5-seed0.parquet"] == before["sample00000-lr0.5-seed0.parquet"]


# The digest of weights


def stored(path: Path) -> list:
    return list(open_tensors(path).values())


def test_the_digest_does_not_depend_on_the_division_into_files(tiny_model, tmp_path):  # noqa: F811
    tensors = load_file(tiny_model / "model.safetensors")
    names, weight_map = sorted(tensors), {}
    for part, chosen in enumerate((names[:3], names[3:])):
        file = f"model-{part}.safetensors"
        save_file({name: tensors[name] for name in chosen}, tmp_path / file, metadata={"part": str(part)})
        weight_map |= dict.fromkeys(chosen, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert weights_digest(stored(tmp_path)) == weights_digest(stored(tiny_model))


def test_the_digest_of_a_large_checkpoint_reads_a_sample_of_every_tensor(tmp_path):
    large = np.zeros(WHOLE // 4 + 1000, np.float32)
    small = np.zeros(8, np.float32)

    def digest() -> str:
        save_file({"large": large, "small": small}, tmp_path / "model.safetensors")
        return weights_digest(stored(tmp_path))

    found = {digest()}
    small[3] = 1
    found.add(digest())
    large[-1] = 1
    found.add(digest())
    large[: PIECE // 4] = 2
    found.add(digest())
    assert len(found) == 4
    large[PIECE // 4 + 7] = 3  # between the first piece and the second
    assert digest() in found
    assert (large.nbytes - PIECE) // (PIECES - 1) > PIECE


def test_a_target_is_its_text_and_its_tokens():
    digests = {
        identity.target_digest(text, tokens)
        for text in ("a", "b", "a\udc80")
        for tokens in ([1, 2], [1], np.array([2, 1]))
    }
    assert len(digests) == 9
    assert identity.target_digest("a", [1, 2]) == identity.target_digest("a", np.array([1, 2], np.int64))
