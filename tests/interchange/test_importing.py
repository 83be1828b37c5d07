"""Rows as the published code writes them, read as a run: every column, what is left out, what is refused."""

import json
import shutil

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, List, Value, load_from_disk
from huggingface_hub import constants

from jaxcram import api
from jaxcram.cli import main
from jaxcram.errors import UserError
from jaxcram.interchange import saved
from jaxcram.interchange.published import PUBLISHED

START = np.array([[0.5, 0.25]], np.float32)
TARGETS = {0: "né!?", 1: "ab"}  # of 5 and 2 bytes, which are tokens
STEPS = {0: [3, 5, 9, 20, 20], 1: [4, 6, 6, 6, 6]}  # cumulative; of a sample that has ended they stand still
RIGHT = {0: [1.0, 1.0, 1.0, 0.75, 0.6], 1: [1.0] * 5}  # sample 0 fails at four tokens, sample 1 is whole
POINTS = {
    0: np.array([[3, 4], [3, 4], [0.1, 8], [1, 1], [1, 1]], np.float32)[:, None],
    1: np.array([[1, 0], [1, 2], [1, 2], [1, 2], [1, 2]], np.float32)[:, None],
}


def published_rows(model, samples=(0, 1), stages=5):
    """Rows of one batch, stage by stage, which goes on until its last sample has failed or is whole."""
    rows = []
    for i in range(stages):
        for sample in samples:
            prefix = TARGETS[sample].encode()[: i + 1]
            rows.append(
                {
                    "sample_id": sample,
                    "stage_index": i,
                    "stage_seq_len": i + 1,
                    "text": prefix.decode(errors="replace"),
                    "embedding": POINTS[sample][i].tolist(),
                    "initialization_embedding": START.tolist(),
                    "final_loss": 0.5 / (i + 1),
                    "final_convergence": RIGHT[sample][i],
                    "num_input_tokens": len(prefix),
                    "num_compression_tokens": 1,
                    "hidden_size": 2,
                    "loss_type": "cross_entropy",
                    "dtype": "bf16",
                    "model_checkpoint": str(model),
                    "max_optimization_steps_per_sample": 20,
                    "convergence_threshold": 1.0,
                    "steps_taken": STEPS[sample][i],
                    "information_gain_bits": float(i),
                    "progressive_prefix_len": 0,  # a column that not all of their versions have
                }
            )
    return rows


@pytest.fixture(scope="module")
def source(tiny_model, tmp_path_factory):
    """A saved data set with two splits. Not to be written to."""
    folder = tmp_path_factory.mktemp("published") / "tiny"
    low = Dataset.from_list(published_rows(tiny_model, samples=[1]))
    DatasetDict({"baseline": Dataset.from_list(published_rows(tiny_model)), "lowdim": low}).save_to_disk(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory):
    return api.import_run(source, tmp_path_factory.mktemp("imported") / "run", learning_rate=0.5, seed=3)


def test_every_column_of_a_sample_that_failed(imported, tiny_model):
    rows = [row for row in imported.run.rows().to_pylist() if row["sample_id"] == 0]
    known = {name: [row[name] for row in rows] for name in rows[0]}
    norms = [5.0, 5.0, float(np.linalg.norm(POINTS[0][2].astype(np.float64))), float(np.sqrt(2))]
    second = float(np.linalg.norm(POINTS[0][2].astype(np.float64) - POINTS[0][1]))
    third = second + float(np.linalg.norm(POINTS[0][3].astype(np.float64) - POINTS[0][2]))
    of_lane = {"platform": None, "device_kind": None, "mesh": None, "weights_digest": None}
    of_lane |= {"relative_norm": None, "surprisal_bits": None, "loss_type": "cross_entropy", "dtype": "bf16"}
    of_lane |= {"sample_id": 0, "learning_rate": 0.5, "seed": 3, "num_input_tokens": 4, "hidden_size": 2}
    of_lane |= {"bucket_tokens": 4, "bucket_lanes": 1, "num_compression_tokens": 1}
    of_lane |= {"model_checkpoint": str(tiny_model), "convergence_threshold": 1.0}
    of_lane |= {"max_optimization_steps_per_sample": 20}
    assert known == {
        **{name: [value] * 4 for name, value in of_lane.items()},
        "stage_index": [0, 1, 2, 3],
        "stage_seq_len": [1, 2, 3, 4],
        "steps": [3, 2, 4, 11],
        "steps_taken": [3, 5, 9, 20],
        "final_loss": [0.5, 0.25, 0.5 / 3, 0.125],
        "final_convergence": [1.0, 1.0, 1.0, 0.75],
        "exact": [True, True, True, False],
        "exact_prefix": [1, 2, 3, 3],
        "information_gain_bits": [0.0, 1.0, 2.0, 3.0],
        "embedding": POINTS[0][:4].tolist(),
        "initialization_embedding": [START.tolist(), None, None, None],
        "vector_norm": pytest.approx(norms, rel=1e-12),
        "trajectory_length": pytest.approx([0.0, 0.0, second, third], rel=1e-12),
        "trajectory_components": [None, None, 1, 2],
        "stop_reason": [None, None, None, "sample_cap"],
        "text": ["né!", None, None, None],
        "target_ids": [tokens("né!"), None, None, None],
    }


def tokens(text):
    """Token ids of the tiny model: bytes in the order of the characters that stand for them."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelt = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return [alphabet.index(character) for part, _ in spelt for character in part]


def test_a_whole_sample_ends_with_its_text_and_what_its_batch_wrote_later_is_left_out(imported):
    rows = [row for row in imported.run.rows().to_pylist() if row["sample_id"] == 1]
    assert [(row["stage_seq_len"], row["steps"], row["stop_reason"]) for row in rows] == [
        (1, 4, None),
        (2, 2, "complete"),
    ]
    assert (rows[0]["text"], rows[0]["target_ids"]) == ("ab", tokens("ab"))
    assert (imported.left_out, imported.rows_left_out) == ([], 3 + 1)


def test_its_figures_count_as_published(imported):
    lanes = {lane["sample_id"]: lane for lane in imported.run.as_published()}
    assert {sample: lane["tokens"] for sample, lane in lanes.items()} == {0: 4, 1: 2}  # horizon + 1, whole
    assert {lane["sample_id"]: lane["horizon"] for lane in imported.run.summary["lanes"]} == {0: 3, 1: 2}
    points = POINTS[0][:4, 0].astype(np.float64)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert lanes[0]["trajectory_length"] == pytest.approx(length, rel=1e-12)
    assert lanes[0]["information_gain_bits"] == 3.0


def test_it_is_exported_as_it_was_published_to_the_bit(imported, tiny_model, tmp_path):
    [folder] = api.export_run(imported.run, tmp_path / "out")
    table = load_from_disk(folder).data.table.select(PUBLISHED.names)
    own = {0: 4, 1: 2}
    rows = sorted(published_rows(tiny_model), key=lambda row: (row["sample_id"], row["stage_index"]))
    expected = [
        {name: row[name] for name in PUBLISHED.names}
        for row in rows
        if row["stage_index"] < own[row["sample_id"]]
    ]
    assert table.to_pylist() == expected


def test_parquet_files_and_splits_give_the_same_rows(imported, source, tiny_model, tmp_path):
    shards = Dataset.from_list(published_rows(tiny_model)), Dataset.from_list(published_rows(tiny_model, [1]))
    (tmp_path / "parquet").mkdir()
    for split, shard in zip(("baseline", "lowdim"), shards, strict=True):
        shard = shard.cast_column("embedding", List(List(Value("float32"))))  # as others may store it
        shard.to_parquet(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet")
    options = {"learning_rate": 0.5, "seed": 3}
    again = api.import_run(tmp_path / "parquet", tmp_path / "a", **options)
    assert again.run.rows().equals(imported.run.rows())
    for split in ("baseline", "lowdim"):
        (tmp_path / "folders" / "tiny" / split).mkdir(parents=True)
        shard = tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"
        shutil.copy(shard, tmp_path / "folders" / "tiny" / split / "0000.parquet")
    (tmp_path / "nameless").mkdir()
    shutil.copy(
        tmp_path / "parquet" / "lowdim-00000-of-00001.parquet", tmp_path / "nameless" / "0000.parquet"
    )
    of_sample_1 = imported.run.rows().slice(4)
    places = (tmp_path / "parquet", source, tmp_path / "folders", tmp_path / "nameless")
    for number, place in enumerate(places):
        low = api.import_run(place, tmp_path / f"low{number}", split="lowdim", **options)
        assert low.run.rows().equals(of_sample_1)


def test_a_folder_whose_files_name_other_splits_is_refused(tmp_path):
    for number, name in enumerate(("train-00000-of-00002-0a1b", "train-00001-of-00002", "low_dim/0000", "x")):
        file = tmp_path / "source" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({"number": [number]}).to_parquet(file)
    source = str(tmp_path / "source")
    with pytest.raises(UserError, match=r"source: no split 'baseline' in it; choose split from low_dim, tr"):
        api.import_run(source, tmp_path / "run")
    found = {
        split: [rows.to_table()["number"].to_pylist() for _, rows in saved.open_all(source, split)]
        for split in ("train", "low_dim")
    }
    assert found == {"train": [[0, 1]], "low_dim": [[2]]}


def test_the_same_import_again_does_what_is_missing(imported, source, tmp_path):
    first = api.import_run(source, tmp_path / "run", learning_rate=0.5, seed=3).run
    (first.path / "summary.json").unlink()
    (first.path / "rows" / "sample00001-lr0.5-seed3.parquet").unlink()
    again = api.import_run(source, tmp_path / "run", learning_rate=0.5, seed=3).run
    assert again.rows().equals(imported.run.rows())
    assert again.summary == imported.run.summary


def test_a_sample_whose_text_does_not_give_back_its_tokens_is_left_out(tiny_model, tmp_path):
    rows = published_rows(tiny_model)
    rows[0]["text"] = "x"  # sample 0, stage 0
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    found = api.import_run(tmp_path / "saved", tmp_path / "run", learning_rate=0.5)
    assert found.left_out == [0]
    assert [lane["sample_id"] for lane in found.run.summary["lanes"]] == [1]


def test_a_data_set_of_the_hub_is_asked_for_by_name_configuration_and_split(
    imported, tiny_model, tmp_path, monkeypatch
):
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return Dataset.from_list(published_rows(tiny_model))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    name, options = "someone/trajectories:tiny", {"learning_rate": 0.5, "seed": 3}
    assert api.import_run(name, tmp_path / "run", **options).run.rows().equals(imported.run.rows())
    assert asked == [("someone/trajectories", "tiny", "baseline")]


def change(rows, **columns):
    return [row | columns for row in rows]


def without(column, rows):
    return [{name: value for name, value in row.items() if name != column} for row in rows]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: without("steps_taken", rows), "no column 'steps_taken', which"),
        (lambda rows: change(rows, stage_seq_len="one"), "column stage_seq_len holds string, not int64"),
        (lambda rows: rows[2:], "the stages of sample 0 are not those of a prefix that grows"),
        (lambda rows: [*rows, rows[0]], "the stages of sample 0 are not those of a prefix that grows"),
        (lambda rows: [rows[0] | {"text": None}, *rows[1:]], "sample 0 has rows without text"),
        (lambda rows: [rows[0] | {"embedding": None}, *rows[1:]], "sample 0 has rows without embedding"),
        (lambda rows: [*rows[:5], *change(rows[5:], dtype="float32")], "rows of more than one dtype"),
        (lambda rows: change(rows, text="z"), "no text in it gives back its tokens with the tokenizer"),
    ],
)  # fmt: skip
def test_rows_that_are_not_of_progressive_cramming_are_refused(spoil, message, tiny_model, tmp_path):
    rows = sorted(published_rows(tiny_model), key=lambda row: (row["sample_id"], row["stage_index"]))
    Dataset.from_list(spoil(rows)).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError) as caught:
        api.import_run(tmp_path / "saved", tmp_path / "run", learning_rate=0.5)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_sources_that_cannot_be_read_are_refused(source, exported, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    for name, options, message in [
        (tmp_path / "empty", {}, "neither a saved data set nor Parquet files in it; check the path"),
        (tmp_path / "absent", {}, "absent: no such file or directory; check the path"),
        (tmp_path / "bad.parquet", {}, "bad.parquet: not readable as Parquet"),
        (source, {"split": "train"}, "tiny: no split 'train' in it; choose split from baseline, lowdim"),
        (source, {}, "its rows do not tell the learning rate; give learning_rate, such as 0.1"),
        ([exported, exported], {}, "sample00000-lr0.01-seed0 is in .* too; give one of them"),
    ]:
        with pytest.raises(UserError, match=message):
            api.import_run(name, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_programs_say_where_and_what_was_left_out(source, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    assert main.main(["import", str(source), "--learning_rate=0.5", f"--out={run}"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("left out: 4 rows that a batch wrote after the end of a sample of it\n")
    assert "compilation" not in printed
    assert "no example" not in printed
    assert main.main(["export", str(run), f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"{out / 'lr0.5-seed0' / 'progressive_prefixes'}\n"
    assert main.main(["import", str(out), f"--out={tmp_path / 'again'}"]) == 0
    left = json.loads((tmp_path / "again" / "summary.json").read_text())["lanes"]
    assert left == json.loads((run / "summary.json").read_text())["lanes"]
