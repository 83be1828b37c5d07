"""Trajectories, embeddings, components, figures and lanes of a run from Python."""

import dataclasses

import numpy as np
import pytest

from jaxcram import api
from jaxcram.errors import UserError
from jaxcram.findings import registry
from jaxcram.findings.findings import Findings
from tests.findings.made import SHAPE, lane, make_run, write_lane

JOBS = [(sample, rate, seed) for sample in range(2) for rate in (0.1, 1.0) for seed in (0, 3)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return api.load_run(make_run(tmp_path_factory.mktemp("findings") / "run", JOBS))


def points_of(*job):
    return np.stack([row["embedding"] for row in lane(*job)])


def test_a_trajectory_is_the_embeddings_of_the_exact_stages(run):
    points = points_of(1, 0.1, 3)
    np.testing.assert_array_equal(run.trajectory(1, 0.1, 3), points[:-1])
    np.testing.assert_array_equal(run.trajectory(1, 0.1, 3, as_published=True), points)
    assert run.trajectory(1, 0.1, 3).dtype == np.float32


def test_where_there_is_a_choice_the_first_lane_with_the_longest_horizon_is_taken(run):
    np.testing.assert_array_equal(run.trajectory(), points_of(1, 0.1, 0)[:-1])
    np.testing.assert_array_equal(run.trajectory(lr=1.0, seed=3), points_of(1, 1.0, 3)[:-1])
    np.testing.assert_array_equal(run.trajectory(0), points_of(0, 0.1, 0)[:-1])


def test_an_embedding_is_that_of_a_stage_and_at_first_of_the_last_exact_one(run):
    points = points_of(0, 1.0, 0)
    assert run.embedding(0, 1.0, 0).shape == SHAPE
    np.testing.assert_array_equal(run.embedding(0, 1.0, 0), points[-2])
    np.testing.assert_array_equal(run.embedding(0, 1.0, 0, stage=0), points[0])
    np.testing.assert_array_equal(run.embedding(0, 1.0, 0, stage=6), points[6])
    for stage in (7, -1):
        with pytest.raises(UserError, match=rf"has no stage {stage}; its stages are 0 to 6"):
            run.embedding(0, 1.0, 0, stage=stage)


def test_the_components_are_of_the_trajectory(run):
    basis = run.pca(1, 1.0)
    points = run.trajectory(1, 1.0)
    np.testing.assert_allclose(basis.rebuilt(len(points)), points, atol=1e-5)
    row = run.lanes().query("sample_id == 1 and learning_rate == 1.0 and seed == 0").iloc[0]
    assert basis.count() == row.pca99


@pytest.mark.parametrize("ask", ["trajectory", "embedding", "pca"])
def test_a_lane_that_is_not_there_is_named(run, ask):
    with pytest.raises(UserError, match=r"no lane has sample_id=1, learning_rate=0\.5; look at run\.lanes"):
        getattr(run, ask)(1, 0.5)


def test_embeddings_that_were_not_kept_are_missed(tmp_path):
    path = make_run(tmp_path / "run", [], trajectory="horizon")
    rows = [{**row, "embedding": None} for row in lane(0, 0.1, 0)]
    write_lane(path, (0, 0.1, 0), rows)
    with pytest.raises(UserError, match="kept no embeddings of all stages; cram with trajectory=all"):
        api.load_run(path).trajectory()


def test_a_figure_has_a_name_of_an_analysis(run):
    assert run.figure("capacity").axes[0].get_xlabel().startswith("surprisal of the horizon")
    with pytest.raises(
        UserError, match="there is no figure 'walks'; choose from walk, pca99, jumps, surprisal"
    ):
        run.figure("walks")


def test_lanes_are_a_data_frame_with_a_row_a_lane(run):
    lanes = run.lanes()
    assert list(zip(lanes.sample_id, lanes.learning_rate, lanes.seed, strict=True)) == JOBS
    assert lanes.horizon.tolist() == [6] * 4 + [9] * 4
    assert lanes.as_published_horizon.tolist() == [7] * 4 + [10] * 4
    assert lanes.gain_share.tolist() == pytest.approx([0.8] * 8)
    assert "run" not in lanes.columns


def test_findings_and_their_repr_tell_what_they_are(run):
    assert (
        repr(api.analyse(run))
        == "Findings(1 run, 8 lanes: trajectory, walk, surprisal, capacity, solutions, seeds)"
    )
    assert repr(api.analyse(run.path, analyses=["capacity"])) == "Findings(1 run, 8 lanes: capacity)"
    with pytest.raises(UserError, match="no run to analyse; name at least one"):
        api.analyse()


def test_an_analysis_of_whole_runs_has_a_column_a_run(run, tmp_path, monkeypatch):
    """As solutions of several learning rates are: its rows have no learning rate."""
    spread = registry.Analysis(
        "spread",
        lambda source: [{"sample_id": 0, "apart": len(source.lanes)}],
        lambda rows: {"apart": sum(row["apart"] for row in rows)},
        lambda summary: [("apart", str(summary["apart"]))],
        files=lambda columns: {"apart.txt": columns[1].label.encode()},
        by_lane=False,
    )
    monkeypatch.setattr(registry, "ANALYSES", (*registry.ANALYSES, spread))
    other = api.load_run(make_run(tmp_path / "two", [(0, 0.1, 0), (0, 1.0, 0)]))
    found = api.analyse(run, other, analyses=["capacity", "spread"])
    assert [column.label for column in found.columns("spread")] == ["tiny, run", "tiny, two"]
    assert [column.summary for column in found.columns("spread")] == [{"apart": 8}, {"apart": 2}]
    lines = found.table().splitlines()
    at = lines.index("spread")
    assert [line.split() for line in lines[at - 3 : at + 2]] == [
        *(["run", "run", "two"], ["model", "tiny", "tiny"], [], ["spread"], ["apart", "8", "2"])
    ]
    document = found.document()
    assert document["spread"] == {"apart": 10}
    whole = [column for column in document["columns"] if column["learning_rate"] is None]
    assert [column["spread"] for column in whole] == [{"apart": 8}, {"apart": 2}]
    assert "apart" not in document["lanes"][0]
    assert "spread" in api.analyse(run, analyses=["spread"]).table()
    assert found.files() == {"apart.txt": b"tiny, two"}


def test_texts_of_one_digest_are_one_text_wherever_they_were_crammed(run, tmp_path):
    source = run.source()
    other = api.load_run(make_run(tmp_path / "run", [(0, 0.1, 0)]))
    assert Findings([source, other.source()]).document()["surprisal"]["texts"] == 2
    unknown = dataclasses.replace(other.source(), settings={})  # as an older run recorded none
    assert Findings([source, unknown]).document()["surprisal"]["texts"] == 3


def test_lanes_that_the_summary_lacks_are_left_out(run):
    """As while a finished run is being extended."""
    source = dataclasses.replace(run.source(), lanes=run.source().lanes[:3])
    found = Findings([source])
    jobs = [(lane["sample_id"], lane["learning_rate"], lane["seed"]) for lane in found.lanes]
    assert jobs == JOBS[:3]
    of_lanes = [len(found.rows[one.name]) for one in found.analyses if one.by_lane]
    assert of_lanes == [3] * len(of_lanes)
    assert [dataclasses.astuple(lane.job) for lane in source.each_lane()] == JOBS[:3]


def test_lanes_come_one_by_one_with_all_that_analyses_need(run):
    one = next(run.source().each_lane())
    rows = lane(*JOBS[0])
    assert one.points_SxKxD.shape == (7, *SHAPE)
    np.testing.assert_array_equal(one.start_KxD, rows[0]["initialization_embedding"])
    assert one.target_T.tolist() == rows[0]["target_ids"]
    for name, column in (("prefix_S", "stage_seq_len"), ("steps_S", "steps"), ("exact_S", "exact")):
        assert getattr(one, name).tolist() == [row[column] for row in rows]
    assert one.gain_S.tolist() == [row["information_gain_bits"] for row in rows]
    assert one.bucket_Sx2.tolist() == [[10, 1]] * 7
    assert one.exact().prefix_S.tolist() == [1, 2, 3, 4, 5, 6]
    assert one.exact().points_SxKxD.shape == (6, *SHAPE)
