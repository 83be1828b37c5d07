"""Gathers the lanes of many small shards in few shards of several lanes (`jaxcram.results.shards`).

New shards are written first, and then the old ones are removed. A kill between the two leaves lanes in two
files, which reading counts once; the next compaction removes the copies.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxcram.results import disk
from jaxcram.results.shards import Lane, ShardFormat

MOST_BYTES = 1 << 26  # of a shard of several lanes


def compact(format: ShardFormat, folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Replaces the small shards of a folder by few of several lanes; one lane is in memory at a time.

    Shards of more than half of `most_bytes` are left as they are, so that repeated compactions do not write
    them again, and so are those of another version, whose columns are not the same.

    Args:
        format: of the table.
        folder: of its shards.
        most_bytes: of a new shard, at most.

    Raises:
        UserError: a shard is damaged; nothing has been removed then.
        StoppedError, UserError: the disk does not take the new shards.
    """
    lanes = format.find_lanes(folder)
    with disk.writing(folder):
        sizes = {path: path.stat().st_size for path in format.shards(folder)}
    small = {path for path, size in sizes.items() if size <= most_bytes // 2 and format.is_current(path)}
    counts = Counter(lane.path for lane in lanes.values())
    copies = sizes.keys() - counts.keys()  # all their lanes count from other shards
    small -= copies
    if len(small) > 1:
        each = {path: sizes[path] / counts[path] for path in small}
        for group in _groups([lane for lane in lanes.values() if lane.path in small], each, most_bytes):
            format.write_group(folder, map(format.read_lane, group))
        copies |= small
    disk.remove(sorted(copies))


def _groups(lanes: list[Lane], each: Mapping[Path, float], most_bytes: int) -> Iterator[list[Lane]]:
    """Successive lanes of at most `most_bytes` together; `each` is what a lane of a shard takes."""
    group: list[Lane] = []
    taken = 0.0
    for lane in lanes:
        if group and taken + each[lane.path] > most_bytes:
            yield group
            group, taken = [], 0.0
        group.append(lane)
        taken += each[lane.path]
    if group:
        yield group
