"""An export, imported again, has the rows of the run to the bit, and does what the run does."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from jaxcram import api
from jaxcram.errors import UserError


@pytest.fixture(scope="module")
def imported(exported, tmp_path_factory):
    return api.import_run(exported, tmp_path_factory.mktemp("imported") / "run")


def test_the_rows_come_back_to_the_bit(run, imported):
    assert imported.run.rows().equals(run.rows())
    assert (imported.left_out, imported.rows_left_out) == ([], 0)
    assert imported.run.settings["learning_rates"] == [0.01, 1.0]


def test_the_figures_of_lanes_are_the_same(run, imported):
    decoded = ("kind", "tf_", "exact_", "cached_", "bos_tokens")  # an import does not decode
    for lane, original in zip(imported.run.summary["lanes"], run.summary["lanes"], strict=True):
        assert {name: lane[name] for name in original if not name.startswith(decoded)} == {
            name: value for name, value in original.items() if not name.startswith(decoded)
        }
    assert imported.run.as_published() == run.as_published()


def test_all_analyses_find_the_same(run, imported):
    found, again = (
        api.analyse(one).json().replace(json.dumps(str(one.path)), '"run"') for one in (run, imported.run)
    )
    assert json.loads(found)["trajectory"]["lanes"] == 4
    assert again == found


def test_an_import_decodes_to_the_same_texts(run, imported, tiny_model):
    model = api.load_model(tiny_model)
    assert api.decode(imported.run, model) == api.decode(run, model)


def test_an_import_is_exported_as_the_run_was(imported, exported, tmp_path):
    from datasets import load_from_disk

    for folder in api.export_run(imported.run, tmp_path / "again"):
        before = load_from_disk(exported / folder.relative_to(tmp_path / "again"))
        assert load_from_disk(folder).data.table.equals(before.data.table)


def test_a_run_of_an_earlier_version_keeps_its_figures(run, tmp_path):
    earlier = shutil.copytree(run.path, tmp_path / "earlier")
    for shard in (earlier / "rows").iterdir():
        columns = ["trajectory_length", "trajectory_components", "vector_norm", "relative_norm"]
        pq.write_table(pq.read_table(shard).drop_columns(columns), shard)
    api.export_run(earlier, tmp_path / "out")
    assert api.import_run(tmp_path / "out", tmp_path / "run").run.as_published() == run.as_published()


def test_no_start_of_cram_takes_an_import_up(imported, tiny_model):
    with pytest.raises(
        UserError, match=r"the run has other settings \(.*imported\.sources: was .* is absent"
    ):
        api.cram(
            api.load_model(tiny_model),
            ["one day", "a café"],
            out=imported.run.path,
            learning_rates=(0.01, 1.0),
            verbose=False,
        )
