"""The files of a run that is not running: what they say, and what may happen to them."""

import collections
import contextlib
import json
import random
from pathlib import Path
from typing import Any

from jaxcram.results.curves import CURVES
from jaxcram.results.reading import load_curves, load_rows
from jaxcram.results.rows import ROWS

DAMAGE = ("none", "none", "flipped", "truncated", "none", "removed shard", "none")


def rows_of(out: Path) -> dict[tuple, list[str]]:
    """All rows of a run, those of its curves too, to the bit, by lane, table and number."""
    found = collections.defaultdict(list)
    for shards, table in ((ROWS, load_rows(out)), (CURVES, load_curves(out))):
        for row in table.to_pylist():
            place = row["sample_id"], row["learning_rate"], row["seed"], shards.name, row[shards.index]
            found[place].append(repr(sorted(row.items())))
    return found


def events(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without those that a kill has cut."""
    found = []
    for line in (out / "log.jsonl").read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def damage(out: Path, card: str, draw: random.Random) -> bool:
    """Does to a run what `card`, of `DAMAGE`, says; False if there is nothing to do that to."""
    shards = sorted(out.glob("rows/*.parquet"))
    steps = sorted(out.glob("checkpoints/state/[0-9]*"), key=lambda path: path.name.zfill(9))
    steps = [step for step in steps if step.name.isdecimal()]
    if card == "removed shard" and shards:
        draw.choice(shards).unlink()
    elif card in ("flipped", "truncated") and steps:
        files = sorted(file for file in steps[-1].rglob("*") if file.is_file() and file.stat().st_size)
        if not files:
            return False
        arrays = [file for file in files if file.parent.name == "d"]
        file = draw.choice(arrays if card == "flipped" and arrays else files)
        content = bytearray(file.read_bytes())
        place = draw.randrange(len(content))
        if card == "flipped":
            content[place] ^= 1 << draw.randrange(8)
        else:
            del content[place:]
        file.write_bytes(content)
    else:
        return False
    return True
