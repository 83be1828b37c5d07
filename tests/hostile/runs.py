"""Hostile run directories: settings, summary, rows, log and lock, through everything that reads a run."""

import contextlib
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxcram import api
from jaxcram.cli import show
from jaxcram.cram.rows import Outcome
from jaxcram.results.directory import RunDirectory
from jaxcram.results.reading import load_lanes, load_rows
from jaxcram.results.rows import COLUMNS, ROWS
from jaxcram.results.table import stack_embeddings
from tests.hostile import mutations, valid
from tests.hostile.oracle import Attack

_NUMBERS = [0, -1, 1, 7, 2**31, 2**62, -(2**63), 10**9, 10**15]


def settings(folder: Path, rng: random.Random) -> Attack:
    """settings.json or summary.json with hostile values or bytes, or no file at all."""
    run = valid.run(folder)
    file = run / rng.choice(("settings.json", "summary.json", "summary.json", "summary.json"))
    file.write_bytes(mutations.document(rng, json.loads(file.read_text())))
    if rng.random() < 0.05:
        mutations.obstacle(rng, file)
    return _reading(run, rng)


def rows(folder: Path, rng: random.Random) -> Attack:
    """A shard of another schema, with other values, damaged, or in the place of another."""
    run = valid.run(folder)
    if rng.random() < 0.4:
        _gather(run / "rows")
    shards = sorted((run / "rows").iterdir())
    shard, other = rng.sample(shards, 2)
    action = rng.choice(
        ("column", "column", "column", "values", "values", "values", "bytes", "bytes", "swap", "place")
    )
    if action in ("column", "values"):
        table = pq.read_table(shard)
        table = _other_column(table, rng) if action == "column" else _other_values(table, rng)
        pq.write_table(table, shard, row_group_size=4)  # the rows of a lane
    elif action == "bytes":
        shard.write_bytes(mutations.scramble(rng, shard.read_bytes()))
    elif action == "swap":
        content = shard.read_bytes()
        shard.write_bytes(other.read_bytes())
        if rng.random() < 0.5:
            other.write_bytes(content)
        else:
            shard.rename(
                shard.with_name(
                    rng.choice(("x.parquet", "\x1b[31m.parquet", ".parquet", "a" * 200 + ".parquet"))
                )
            )
    else:
        mutations.obstacle(rng, shard)
    return _reading(run, rng)


def _gather(folder: Path) -> None:
    """Two lanes a shard."""
    singles = sorted(folder.iterdir())
    for pair in (singles[:2], singles[2:]):
        ROWS.write_group(folder, map(ROWS.read_shard, pair))
    for single in singles:
        single.unlink()


def furniture(folder: Path, rng: random.Random) -> Attack:
    """Log, lock, rows or leftovers that are garbage, directories, pipes or links to what is not theirs."""
    run, victim = valid.run(folder), folder / "victim"
    victim.write_text("precious\n")
    name = rng.choice(
        (
            "log.jsonl",
            "run.lock",
            "rows",
            ".settings.json.tmp",
            "figure.png",
            "rows/.x.parquet.tmp",
            "settings.json",
        )
    )
    place = run / name
    action = rng.choice(("garbage", "obstacle", "victim", "gone"))
    if place.is_dir():
        for shard in place.iterdir():
            shard.unlink()
        place.rmdir()
    elif place.exists():
        place.unlink()
    if action == "garbage":
        place.write_bytes(mutations.scramble(rng, b'{"event": "lane"}\n' * 20))
    elif action == "obstacle":
        mutations.obstacle(rng, place)
    elif action == "victim":
        place.symlink_to(victim.absolute())
    reading = _reading(run, rng)

    def kept() -> None:
        assert victim.read_text() == "precious\n", f"{name} wrote to what it is a link to"

    return Attack([*reading.calls, kept], reading.names)


def place(folder: Path, rng: random.Random) -> Attack:
    """Paths of runs that are none."""
    (folder / "file").write_text("x")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "\x1b[31m\n").write_text("x")
    (folder / "loop").symlink_to("loop")
    paths = (
        "\0",
        "a\0b",
        "~nobody-there/x",
        "file",
        "file/x",
        "foreign",
        "loop",
        "loop/x",
        "a" * 300,
        "/".join(["a" * 200] * 40),
    )
    name = rng.choice(paths)
    path = name if name.startswith("~") else str(folder / name) if "/" not in name[:1] else name
    calls = [
        lambda: RunDirectory.open(path, {}).close(),
        lambda: api.load_run(path),
        lambda: load_rows(path),
    ]
    return Attack(calls[1:] if name.startswith("~") else calls, [path[:100], "\\x00"], must_refuse=True)


def _reading(run: Path, rng: random.Random) -> Attack:
    """Everything that reads a run; what takes long (a figure, a second start) now and then only."""

    def work() -> None:
        with RunDirectory.open(run, valid.SETTINGS) as directory:
            directory.finished_jobs()
            directory.compact(ROWS)
            directory.log({"event": "fuzzed"})

    def shown() -> None:
        finished = api.load_run(run)
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")):
            show.present(finished) if rng.random() < 0.08 else print(finished.table())

    def lanes() -> None:
        mode = rng.choice(("progressive", "full"))
        for _, table in load_lanes(run):
            outcome = Outcome.of_table(table, mode)
            np.asarray(outcome.row["embedding"], np.float32) if outcome.row else None

    def embeddings() -> None:
        stack_embeddings(load_rows(run)["embedding"])

    def analysed() -> None:
        found = api.analyse(run)
        print(found.table(), found.json(), found.csv(), file=io.StringIO())
        api.load_run(run).pca()

    calls = [shown, lambda: api.load_run(run).rows(), lanes, embeddings, analysed, work]
    return Attack(calls, [str(run)[:200], "these rows"])


def _other_column(table: pa.Table, rng: random.Random) -> pa.Table:
    """A column missing, doubled, renamed or of another type."""
    name = rng.choice(list(COLUMNS))
    place = table.column_names.index(name)
    action = rng.choice(("missing", "type", "type", "type", "renamed", "more", "doubled"))
    if action == "missing":
        return table.drop_columns([name])
    if action == "renamed":
        return table.rename_columns(
            {name: str(mutations.value(rng)).replace("\ud800", "").replace("\udcff", "")}
        )
    if action == "more":
        return table.append_column("more", pa.array(range(len(table))))
    if action == "doubled":
        return table.append_column(table.schema.field(name), table[name])
    kinds = [
        pa.int64(),
        pa.float64(),
        pa.string(),
        pa.bool_(),
        pa.list_(pa.int64()),
        pa.int8(),
        pa.timestamp("us"),
    ]
    values: list[Any] = [1, 0.5, "x", True, [1, 2], 3, 5]
    which = rng.randrange(len(kinds))
    column = pa.array([values[which]] * len(table), kinds[which])
    return table.set_column(place, pa.field(name, kinds[which]), column)


def _other_values(table: pa.Table, rng: random.Random) -> pa.Table:
    """A column with other values of its own type, nulls where there were none, or rows in another order."""
    action = rng.choice(("value", "value", "value", "value", "null", "order", "none", "many"))
    if action == "order":
        return table.take(rng.sample(range(len(table)), len(table)))
    if action == "none":
        return table.slice(0, 0)
    if action == "many":
        return pa.concat_tables([table, table])
    name = rng.choice([*COLUMNS, "bucket_tokens", "bucket_lanes", "embedding", "target_ids", "stage_index"])
    place, kind = table.column_names.index(name), table.schema.field(name).type
    values = table[name].to_pylist()
    where = rng.randrange(len(values))
    if action == "null":
        values[where] = None
    elif pa.types.is_integer(kind):
        values[where] = rng.choice(_NUMBERS)
    elif pa.types.is_floating(kind):
        values[where] = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e308, 5e-324))
    elif pa.types.is_string(kind):
        values[where] = rng.choice(("", "\0", mutations.ESCAPES, "x" * 100_000, "$\\frac{"))
    elif pa.types.is_boolean(kind):
        values[where] = not values[where]
    elif name == "target_ids":
        values[where] = rng.choice(([], [None], [-1], [2**31 - 1], [5] * 5000))
    else:
        width = valid.WIDTH
        values[where] = rng.choice(
            (
                [],
                [[]],
                [None],
                [[0.0] * (width + 1)],
                [[0.0] * width] * 2,
                [[None] * width],
                [[float("nan")] * width],
            )
        )
    return table.set_column(place, pa.field(name, kind), pa.array(values, kind))


KINDS = {"settings": (settings, 130), "rows": (rows, 130), "furniture": (furniture, 50), "place": (place, 20)}
