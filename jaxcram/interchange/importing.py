"""Published trajectories read as a run, which every analysis accepts."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxcram.cram.rows import Outcome, vector_norm, with_trajectory
from jaxcram.cram.verify import lane_summary
from jaxcram.errors import UserError
from jaxcram.interchange import published, saved
from jaxcram.loading import tokenizer_of
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import recorded
from jaxcram.results.reading import load_lanes
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Job, Row, stack_embeddings
from jaxcram.runs import Run
from jaxcram.text.tokens import Tokenizer

IMPORTED = "imported"  # the setting that only such runs have, so that no start of cram takes one up
_LIGHT = [name for name in published.EXPORTED.names if not name.endswith("embedding")]
_NUMBERS = ("stage_index", "stage_seq_len", "num_input_tokens", "final_convergence", "steps_taken")
_WORDS = ("text", "dtype", "model_checkpoint")
_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}  # as other programs write them
_CONSTANTS = ["model_checkpoint", "dtype", "num_compression_tokens", "hidden_size"]
_SAME = [name for name in published.SAME if not name.endswith("embedding")]
_NOTHING_MEASURED = {"wall_s": 0, "compile_s": 0, "compile_saved_s": 0, "passes": 0, "useful_share": None}


class Imported(NamedTuple):
    """What was imported.

    Attributes:
        run: the run.
        left_out: samples whose tokens their text does not give back.
        rows_left_out: rows of a batch that went on after the sample's own end.
    """

    run: Run
    left_out: list[int]
    rows_left_out: int


class _Lane(NamedTuple):
    """A lane in a source.

    Attributes:
        where: the source, for messages.
        rows: of the source.
        filter: those of the lane among them.
        light: the lane's own rows by stage, without embeddings.
        text, tokens: the target.
    """

    where: str
    rows: pa.dataset.Dataset
    filter: pc.Expression
    light: pa.Table
    text: str
    tokens: list[int]


def import_run(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    split: str = "baseline",
    model: str | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> Imported:
    """Read published trajectories, or what `export_run` wrote, as a run.

    Rows that jaxcram exported come back to the bit. Of other rows, which tell less, a lane's tokens come from
    its longest text, and are right if their prefixes decode to the text of every stage; a sample of which
    that is not so is left out. A stage is exact if its `final_convergence` is 1. Rows after the first stage
    that failed, or beyond the end of the text, were written because other samples of the batch went on; they
    are left out. Unknown are surprisal and relative norm (null), where in the failed stage the first error
    stands (`exact_prefix` is the horizon), and the shape of passes (`bucket_tokens` x `bucket_lanes` is the
    target alone). The published embedding was saved after the step that followed its measurement.

    Args:
        sources: a folder of `datasets.save_to_disk`, or one with such folders below it; a Parquet file or a
            folder of them; or a Hub data set as `name:config`; or several of these.
        out: the run directory, which may be that of an earlier start of the same import.
        split: "baseline" or "lowdim", where a source has splits.
        model: path or Hub name of the model, for its tokenizer; None takes it from the rows.
        learning_rate: of rows that do not tell it, as the published ones (Pythia-1.4B 0.5, the others 0.1).
        seed: of rows that do not tell it.

    Raises:
        UserError: a source is missing, damaged or has other columns; a learning rate is missing; the rows
            are of several models; a lane is there twice; or no sample's tokens are found.
        StoppedError: the disk is full or gone; the same call does the rest.
    """
    names = [os.fspath(name) for name in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    lanes: dict[Job, _Lane] = {}
    left_out: list[int] = []
    rows_left_out = 0
    tokenizers = functools.cache(tokenizer_of)
    for where, rows in (found for name in names for found in saved.open_all(name, split)):
        published.require_columns(where, rows.schema.names)
        for job, filter in _jobs(where, rows, learning_rate, seed):
            light, others = _own_rows(where, rows, filter, job)
            rows_left_out += others
            if job in lanes:
                raise UserError(f"{where}: {job.key} is in {lanes[job].where} too; give one of them")
            if target := _target(light, model, tokenizers):
                lanes[job] = _Lane(where, rows, filter, light, *target)
            else:
                left_out.append(job.sample_id)
    if not lanes:
        raise UserError(
            f"{names[0]}: no text in it gives back its tokens with the tokenizer of this model; "
            "give the model that was crammed"
        )
    settings = _settings(lanes, names, split, model, tokenizers)
    return Imported(_write(os.fspath(out), settings, lanes), sorted(left_out), rows_left_out)


def _jobs(
    where: str, rows: pa.dataset.Dataset, learning_rate: float | None, seed: int
) -> Iterator[tuple[Job, pc.Expression]]:
    """Yields the lanes of a source, and how to find the rows of each."""
    columns = published.job_columns(rows.schema.names)
    if "learning_rate" not in columns and learning_rate is None:
        raise UserError(f"{where}: its rows do not tell the learning rate; give learning_rate, such as 0.1")
    of_rows = {"learning_rate": learning_rate, "seed": seed}
    found = (
        published.conformed(where, saved.read(where, rows, columns))
        .group_by(columns)
        .aggregate([])
        .to_pylist()
    )
    if any(None in row.values() for row in found):
        raise UserError(f"{where}: rows without {' or '.join(columns)}; get it again")
    for job, row in sorted((Job.of_row(of_rows | row), row) for row in found):
        terms = [pc.field(name) == value for name, value in row.items()]
        yield job, functools.reduce(pc.Expression.__and__, terms)


def _own_rows(where: str, rows: pa.dataset.Dataset, filter: pc.Expression, job: Job) -> tuple[pa.Table, int]:
    """The rows of a lane by stage, without embeddings, and how many more its batch wrote after its end."""
    table = _stages(where, rows, filter, _LIGHT)
    empty = [name for name in (*_NUMBERS, *_WORDS) if table[name].null_count]
    if saved.count(where, rows, filter & pc.field("embedding").is_null()):
        empty.append("embedding")
    if empty:
        raise UserError(f"{where}: sample {job.sample_id} has rows without {empty[0]}; get it again")
    column = {name: table[name].to_numpy() for name in _NUMBERS}
    count = len(table)
    if not published.is_exported(rows.schema.names):
        failed = np.flatnonzero(column["final_convergence"] != 1)
        beyond = np.flatnonzero(column["num_input_tokens"] != column["stage_seq_len"])
        count = int(min([count, *(failed[:1] + 1), *beyond[:1]]))
    lengths, steps = column["stage_seq_len"][:count], column["steps_taken"][:count]
    if (
        not count
        or column["stage_index"][:count].tolist() != list(range(count))
        or min(lengths[0], *np.diff(lengths), 1) < 1
        or min(steps[0], *np.diff(steps), 0) < 0
    ):
        raise UserError(
            f"{where}: the stages of sample {job.sample_id} are not those of a prefix that grows; give the "
            "rows of progressive cramming, all of them once"
        )
    return table.slice(0, count), len(table) - count


def _stages(where: str, rows: pa.dataset.Dataset, filter: pc.Expression, columns: Sequence[str]) -> pa.Table:
    """The rows of a lane in order of their stages, with those of some columns that they have."""
    present = [name for name in columns if name in rows.schema.names]
    return published.conformed(where, saved.read(where, rows, present, filter)).sort_by("stage_index")


def _target(
    light: pa.Table, model: str | None, tokenizers: Callable[[str], Tokenizer]
) -> tuple[str, list[int]] | None:
    """Text and tokens of a lane's target, as far as it was crammed; None if the text does not tell them."""
    if published.is_exported(light.column_names):
        return light["target_text"][0].as_py(), light["target_ids"][0].as_py()
    texts, lengths = light["text"].to_pylist(), light["stage_seq_len"].to_pylist()
    tokenizer = tokenizers(model or light["model_checkpoint"][0].as_py())
    for ids in _encodings(tokenizer, texts[-1]):
        if len(ids) == lengths[-1] and all(
            tokenizer.decode(ids[:length]) == text for text, length in zip(texts, lengths, strict=True)
        ):
            return texts[-1], ids
    return None


def _encodings(tokenizer: Tokenizer, text: str) -> Iterator[list[int]]:
    """A text's tokens as the tokenizer has them by default, without and with BOS."""
    yield tokenizer.encode(text)
    yield tokenizer.encode(text, bos=False)
    if tokenizer.bos_id is not None:
        yield tokenizer.encode(text, bos=True)


def _settings(
    lanes: Mapping[Job, _Lane],
    sources: Sequence[str],
    split: str,
    model: str | None,
    tokenizers: Callable[[str], Tokenizer],
) -> dict[str, Any]:
    """What settings.json says of an imported run."""
    constants = [lane.light.select(_CONSTANTS).slice(0, 1).to_pylist()[0] for lane in lanes.values()]
    if others := [name for name in _CONSTANTS if len({row[name] for row in constants}) > 1]:
        raise UserError(f"{sources[0]}: rows of more than one {others[0]}; import each by itself")
    of_run, one = constants[0], next(iter(lanes.values()))
    if published.is_exported(one.light.column_names):
        contents = {"weights": one.light["weights_digest"][0].as_py()}
    else:
        contents = {"tokenizer": tokenizers(model or of_run["model_checkpoint"]).digest}
    targets = {job.sample_id: (lane.text, np.asarray(lane.tokens)) for job, lane in lanes.items()}
    return {
        "model": recorded(model or of_run["model_checkpoint"]),
        "dtype": _DTYPES.get(of_run["dtype"], of_run["dtype"]),
        "mode": "progressive",
        "num_memory": of_run["num_compression_tokens"],
        "trajectory": "all",
        "texts": recorded(sources[0]),
        "learning_rates": sorted({job.learning_rate for job in lanes}),
        "seeds": sorted({job.seed for job in lanes}),
        IMPORTED: {"sources": [recorded(source) for source in sources], "split": split},
        identity.CONTENTS: identity.contents({k: v for k, v in contents.items() if v}, targets),
    }


def _write(out: str, settings: Mapping[str, Any], lanes: Mapping[Job, _Lane]) -> Run:
    """The run directory; lanes that an earlier start wrote are kept."""
    with RunDirectory.open(out, settings) as directory:
        done = directory.finished_jobs()
        for job in sorted(lanes):
            if job.key not in done:
                directory.write_lane(job, _rows(job, lanes[job]))
        outcomes = (Outcome.of_table(table, settings["mode"]) for _, table in load_lanes(directory.path))
        of_lanes = [{"kind": "text"} | lane_summary(outcome, None, None) for outcome in outcomes]
        directory.write_summary(
            {
                **{name: settings[name] for name in ("model", "mode")},
                **_NOTHING_MEASURED,
                "lane_steps": sum(lane["steps"] for lane in of_lanes),
                "lanes": of_lanes,
                "example": None,
            }
        )
        return Run(directory.path)


def _rows(job: Job, lane: _Lane) -> list[Row]:
    """The rows of a lane as a run has them."""
    table = _stages(lane.where, lane.rows, lane.filter, published.EXPORTED.names)
    table = table.slice(0, len(lane.light))
    if published.is_exported(table.column_names):
        return ROWS.rows(published.to_lane(table))
    single = pa.list_(pa.list_(pa.float32()))
    points = stack_embeddings(table["embedding"].cast(single))
    start = stack_embeddings(table["initialization_embedding"].slice(0, 1).cast(single))[0]
    rows = lane.light.select(_SAME).to_pylist()
    steps = np.diff(lane.light["steps_taken"].to_numpy(), prepend=0).tolist()
    exact = [row["final_convergence"] == 1 for row in rows]
    horizon = max((row["stage_seq_len"] for row, right in zip(rows, exact, strict=True) if right), default=0)
    for i, row in enumerate(rows):
        row |= {
            "exact": exact[i],
            "exact_prefix": row["stage_seq_len"] if exact[i] else horizon,
            "steps": steps[i],
            "num_input_tokens": len(lane.tokens),
            "embedding": points[i],
            "vector_norm": vector_norm(points[i]),
            "bucket_tokens": len(lane.tokens),
            "bucket_lanes": 1,
        }
    rows[0] |= {"text": lane.text, "target_ids": lane.tokens, "initialization_embedding": start}
    rows[-1]["stop_reason"] = _stop_reason(rows[-1])
    return with_trajectory(rows, points)


def _stop_reason(last: Row) -> str:
    """Why a lane ended, as far as its last row tells."""
    if last["exact"]:
        return "complete"
    most = last["max_optimization_steps_per_sample"]
    return "sample_cap" if most is not None and last["steps_taken"] >= most else "stage_cap"
