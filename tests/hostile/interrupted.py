"""Hostile checkpoints of a run that was interrupted: damage is told and passed over, and nothing hangs."""

import functools
import json
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np

from jaxcram.cram.snapshot import Snapshot, lane_checkpoints
from jaxcram.results.directory import RunDirectory
from tests.hostile import mutations
from tests.hostile.oracle import Attack

_LANES = {"a": 0, "b": 0}


@functools.cache
def _run() -> Path:
    """A run with two checkpoints; not to be written to."""
    run = Path(tempfile.mkdtemp(prefix="hostile-valid-")) / "run"
    with RunDirectory.open(run, {}) as directory, lane_checkpoints(directory, 1.0) as checkpoints:
        for number in (1, 2):
            state = {"['mem']": np.full((2, 1, 8), number, np.float32), "x": np.arange(2)}
            checkpoints.save(Snapshot(_LANES, state, {key: [] for key in _LANES}, {}))
    return run


def checkpoints(folder: Path, rng: random.Random) -> Attack:
    """A file of a checkpoint scrambled, of hostile JSON, gone, or something else; or a folder gone."""
    run = Path(shutil.copytree(_run(), folder / "run"))
    inside = run / "checkpoints"
    files = sorted(path for path in inside.rglob("*") if path.is_file())
    for file in rng.sample(files, rng.choice((1, 1, 2, 5))):
        if not file.is_file():
            continue
        action = rng.choice(("scramble", "scramble", "json", "gone", "obstacle", "folder"))
        if action == "json" and file.name in ("metadata", "_METADATA", "_CHECKPOINT_METADATA"):
            file.write_bytes(mutations.document(rng, json.loads(file.read_text())))
        elif action == "gone":
            file.unlink()
        elif action == "obstacle":
            mutations.obstacle(rng, file)
        elif action == "folder":
            shutil.rmtree(file.parent)
        else:
            file.write_bytes(mutations.scramble(rng, file.read_bytes()))

    def read() -> None:
        with RunDirectory.open(run, {}) as directory, lane_checkpoints(directory, 1.0) as opened:
            found = opened.newest()
        # What is taken is whole, whichever it is.
        assert found is None or (found.lanes == _LANES and found.state["['mem']"].min() in (1, 2))

    return Attack([read], [str(run)[:200]])


def bomb(folder: Path, rng: random.Random) -> Attack:
    """A checkpoint of zeros, a thousandth of its size on the disk."""
    run = folder / "run"
    zeros = np.zeros((2, rng.choice((1 << 25, 1 << 26))), np.float32)
    with RunDirectory.open(run, {}) as directory, lane_checkpoints(directory, 1.0) as opened:
        opened.save(Snapshot(_LANES, {"x": zeros}, {key: [] for key in _LANES}, {}))

    def read() -> None:
        with RunDirectory.open(run, {}) as directory, lane_checkpoints(directory, 1.0) as opened:
            assert opened.newest() is None

    return Attack([read], [str(run)[:200]])


KINDS = {"checkpoints of a run": (checkpoints, 70), "bomb": (bomb, 2)}
