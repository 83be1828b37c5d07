"""The rows of a run: they come back as written, in order, with every bit of their embeddings."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jaxcram.errors import StoppedError, UserError
from jaxcram.results.curves import CURVES
from jaxcram.results.rows import COLUMNS, ROWS
from jaxcram.results.table import Job, stack_embeddings

JOB = Job(3, 0.1, 0)


def stage_rows(count, *, num_memory=2, width=3):
    rows = [
        {
            "stage_index": index,
            "stage_seq_len": index + 1,
            "steps": index,
            "steps_taken": index * (index + 1) // 2,
            "final_loss": np.float32(0.1) * index,
            "final_convergence": 1.0,
            "exact": np.bool_(True),
            "embedding": np.full((num_memory, width), index, np.float32),
            "dtype": "float32",
        }
        for index in range(count)
    ]
    rows[0] |= {"text": "é", "target_ids": np.arange(count, dtype=np.int32)}
    return rows


@pytest.fixture
def through_disk(tmp_path):
    """Writes lanes as shards and reads the table of all of them."""

    def write_and_read(lanes, columns=None):
        for job, rows in lanes.items():
            (tmp_path / f"{job.key}.parquet").write_bytes(ROWS.shard_bytes(ROWS.lane_table(job, rows)))
        return ROWS.read_shards(tmp_path, columns)

    return write_and_read


def test_rows_come_back_as_written_and_in_order(through_disk):
    jobs = [
        Job(100_000, 0.1, 0),
        Job(20_000, 10.0, 0),
        Job(20_000, 2.0, 1),
        Job(20_000, 2.0, 0),
        Job(2, 1e-5, 7),
    ]
    table = through_disk({job: stage_rows(3) for job in jobs})
    assert table.column_names == list(COLUMNS)
    of_job = (table[name].to_pylist() for name in ("sample_id", "learning_rate", "seed"))
    assert list(zip(*of_job, strict=True))[::3] == [
        (2, 1e-5, 7),
        (20_000, 2.0, 0),
        (20_000, 2.0, 1),
        (20_000, 10.0, 0),
        (100_000, 0.1, 0),
    ]
    assert table["stage_index"].to_pylist() == [0, 1, 2] * 5
    assert table["final_loss"].to_pylist() == [float(np.float32(0.1) * index) for index in range(3)] * 5
    assert table["exact"].to_pylist() == [True] * 15
    assert table["text"].to_pylist() == ["é", None, None] * 5
    assert table["target_ids"].to_pylist() == [[0, 1, 2], None, None] * 5
    assert table["dtype"].to_pylist() == ["float32"] * 15
    assert table["hidden_size"].to_pylist() == [None] * 15
    expected = np.tile(np.arange(3, dtype=np.float32), 5)[:, None, None] * np.ones((1, 2, 3), np.float32)
    np.testing.assert_array_equal(stack_embeddings(table["embedding"]), expected)


def test_embeddings_keep_every_bit_and_nulls_stay_where_they_are(through_disk):
    rows = stage_rows(4, num_memory=3, width=5)
    written = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    written[0, 0, 0], written[1, 1, 1] = np.nan, np.inf
    for row, embedding in zip(rows, written, strict=True):
        row["embedding"] = embedding
    rows[2]["embedding"] = None
    rows[0]["initialization_embedding"] = written[2]
    table = through_disk({JOB: rows, Job(4, 0.1, 0): rows})
    assert table["embedding"].is_null().to_pylist() == [False, False, True, False] * 2
    np.testing.assert_array_equal(stack_embeddings(table["embedding"]), written[[0, 1, 3, 0, 1, 3]])
    np.testing.assert_array_equal(stack_embeddings(table["embedding"][1:4]), written[[1, 3]])
    np.testing.assert_array_equal(stack_embeddings(table["initialization_embedding"]), written[[2, 2]])
    np.testing.assert_array_equal(np.array(table["embedding"][3].as_py(), np.float32), written[3])


def test_rows_without_embeddings(through_disk):
    table = through_disk({JOB: [{**row, "embedding": None} for row in stage_rows(2)]})
    assert table["embedding"].to_pylist() == [None, None]
    with pytest.raises(UserError, match="trajectory=all"):
        stack_embeddings(table["embedding"])


def test_only_the_requested_columns_are_read_in_order(through_disk):
    lanes = {Job(1, 0.1, 0): stage_rows(2), Job(0, 0.1, 0): stage_rows(1)}
    assert through_disk(lanes, ["steps", "sample_id"]).to_pydict() == {
        "steps": [0, 0, 1],
        "sample_id": [0, 1, 1],
    }
    with pytest.raises(UserError, match="no column 'horizon' in the rows; choose from sample_id, "):
        through_disk({}, ["horizon"])


def test_no_shards_are_a_table_without_rows(through_disk):
    table = through_disk({})
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))


def test_a_shard_of_an_older_version_lacks_the_new_columns_only(tmp_path):
    table = ROWS.lane_table(JOB, stage_rows(1)).drop_columns(["device_kind", "bucket_lanes"])
    (tmp_path / f"{JOB.key}.parquet").write_bytes(ROWS.shard_bytes(table))
    (row,) = ROWS.read_shards(tmp_path, None).to_pylist()
    assert (row["device_kind"], row["bucket_lanes"], row["stage_seq_len"]) == (None, None, 1)


@pytest.mark.parametrize("name", ["a:b", "s3:", "a b", "%41", os.fsdecode(b"caf\xe9")])
def test_shards_are_read_from_a_directory_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    directory = Path(name)
    directory.mkdir()
    table = ROWS.lane_table(JOB, stage_rows(2))
    (directory / f"{JOB.key}.parquet").write_bytes(ROWS.shard_bytes(table))
    assert ROWS.read_shards(directory, None).to_pylist() == table.to_pylist()


def test_a_shard_that_disappears_while_reading_is_not_taken_for_damaged(tmp_path, monkeypatch):
    shard = tmp_path / "run" / f"{JOB.key}.parquet"
    shard.parent.mkdir()
    shard.write_bytes(ROWS.shard_bytes(ROWS.lane_table(JOB, stage_rows(1))))
    listed = list(shard.parent.glob("*.parquet"))
    shard.parent.rename(tmp_path / "away")
    monkeypatch.setattr(type(shard), "glob", lambda *_: listed)
    with pytest.raises(
        StoppedError, match=f"{JOB.key}.parquet: has disappeared; restore the disk or directory"
    ):
        list(ROWS.each_lane(shard.parent))


def test_rows_are_a_data_frame(through_disk):
    frame = through_disk({JOB: stage_rows(3)}).to_pandas()
    assert frame["stage_seq_len"].tolist() == [1, 2, 3]
    assert frame["text"].ffill().tolist() == ["é"] * 3
    assert np.stack(frame["embedding"][2]).tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("shards", [ROWS, CURVES])
def test_the_schema_documents_each_column(shards):
    assert {field.name: field.metadata[b"doc"].decode() for field in shards.schema} == {
        name: doc for name, (_, _, doc) in shards.columns.items()
    }
    assert shards.schema.names[:3] == ["sample_id", "learning_rate", "seed"]


def test_the_schema_has_the_published_columns():
    schema = ROWS.schema
    assert schema.field("embedding").type == pa.list_(pa.list_(pa.float32()))
    published = """sample_id stage_index stage_seq_len text embedding initialization_embedding final_loss
        final_convergence num_input_tokens num_compression_tokens hidden_size loss_type dtype model_checkpoint
        max_optimization_steps_per_sample convergence_threshold steps_taken information_gain_bits"""
    assert set(published.split()) <= set(schema.names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.clear(), "stage_index of a lane's rows must be 0, 1, 2"),
        (lambda rows: rows.reverse(), "stage_index of a lane's rows must be 0, 1, 2"),
        (lambda rows: rows[1].update(lr=1), r"unknown columns \['lr'\]"),
        (lambda rows: rows[1].pop("steps"), "a row without steps"),
        (lambda rows: rows[1].update(embedding=np.zeros((2, 4))), "one shape"),
        (lambda rows: rows[1].update(embedding=np.zeros(3)), "one shape"),
    ],
)
def test_invalid_rows_are_refused(change, message):
    rows = stage_rows(2)
    assert ROWS.lane_table(JOB, rows).num_rows == 2
    change(rows)
    with pytest.raises(ValueError, match=message):
        ROWS.lane_table(JOB, rows)


def test_job_keys_are_file_names_and_do_not_collide():
    assert Job(3, 0.1, 0).key == "sample00003-lr0.1-seed0"
    assert Job(3, np.float64(0.1), 0).key == "sample00003-lr0.1-seed0"
    assert Job(3, 1, 0).key == "sample00003-lr1.0-seed0"
    rates = [0.1, 0.1 + 2**-56, 0.10000001, 1e-5, 1e-05 * (1 + 2**-52), 1.0, 10.0, 1e16, 5e-324]
    keys = {
        Job(sample, rate, seed).key for rate in rates for sample in (0, 1, 100_000) for seed in (0, 1, 11)
    }
    assert len(set(rates)) == len(rates)
    assert len(keys) == len(rates) * 9
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789.+-") for key in keys)
