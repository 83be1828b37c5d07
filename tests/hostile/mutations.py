"""Valid things made hostile in one or two places, and bytes made hostile anywhere; seeds decide all."""

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DEEP, _TWICE = "@deep@", "@twice@"
DEPTH = 10_000
ESCAPES = "\x1b[31mred\x1b]0;title\x07\r\n\u202e"
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 255, 65_537, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**12, 10**300),
    *(-(2**63), 0.5, -0.5, 1e308, 1e-300, -0.0, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "x",
        "\0",
        "a\0b",
        "\ud800",
        "\udcff",
        ESCAPES,
        "../../etc/passwd",
        "/etc/passwd",
        "{}",
        "$x$_{",
        "%s%n",
    ),
    *("a" * 100_000, "\u00e9" * 300, "\U0001f600", [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": []}}),
    *(list(range(300)), ["x"] * 50, _DEEP, [_DEEP], {"content": _DEEP}),
]


def value(rng: random.Random) -> Any:
    """One of the values that nobody expects."""
    return copy.deepcopy(rng.choice(VALUES))


def mutate(rng: random.Random, tree: Any, times: int | None = None) -> Any:
    """The tree with one or two places hostile: replaced, removed, renamed, doubled, or a neighbour's."""
    tree = json.loads(json.dumps(tree))
    for _ in range(times or rng.choice((1, 1, 1, 2, 2, 3))):
        places = list(_places(tree))
        if not places:
            return value(rng)
        where, key = rng.choice(places)
        action = rng.choice(("replace",) * 5 + ("remove", "rename", "twice", "neighbour"))
        if action == "replace":
            where[key] = value(rng)
        elif action == "remove":
            del where[key]
        elif action == "neighbour":
            other, name = rng.choice(places)
            where[key] = json.loads(json.dumps(other[name]))
        elif isinstance(where, dict):
            name = str(value(rng)) if action == "rename" else key + _TWICE
            where[name] = value(rng) if action == "twice" else where.pop(key)
        else:
            where.insert(key, where[key])
    return tree


def text(tree: Any) -> bytes:
    """A mutated tree as JSON, with the depth and the doubled keys that no Python value can have."""
    written = json.dumps(tree).replace(_TWICE, "")
    return written.replace(f'"{_DEEP}"', "[" * DEPTH + "]" * DEPTH).encode()


def document(rng: random.Random, tree: Any) -> bytes:
    """A hostile JSON file: mostly a valid one with a few hostile values, sometimes hostile bytes."""
    if rng.random() < 0.8:
        return text(mutate(rng, tree))
    return scramble(rng, text(tree))


def scramble(rng: random.Random, data: bytes) -> bytes:
    """Bytes cut, flipped, removed, doubled, inserted, of another encoding, or of no meaning at all."""
    size = max(1, len(data))
    first, last = sorted((rng.randrange(size), rng.randrange(size)))
    action = rng.choice(
        ("cut", "flip", "flip", "flip", "remove", "double", "insert", "encoding", "nothing", "random")
    )
    if action == "cut":
        return data[:first]
    if action == "flip":
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            if flipped:
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        return bytes(flipped)
    if action == "remove":
        return data[:first] + data[last:]
    if action == "double":
        return data[:last] + data[first:]
    if action == "insert":
        inserted = rng.choice(
            (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b"[" * DEPTH, b'"', b"NaN", b"9" * 5000)
        )
        return data[:first] + inserted + data[first:]
    if action == "encoding":
        return data.decode("latin-1").encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")))
    return b"" if action == "nothing" else rng.randbytes(rng.choice((1, 8, 100, 5000)))


def obstacle(rng: random.Random, path: Path) -> None:
    """Something in the place of a file that is none: a directory, a pipe, a link to itself or to a device."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    kind = rng.choice(("directory", "pipe", "loop", "nowhere", "zero"))
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        here = path.absolute()
        path.symlink_to({"loop": here, "nowhere": here.parent / "nowhere", "zero": "/dev/zero"}[kind])


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    level = [tree]
    while level:
        node = level.pop()
        if isinstance(node, dict | list):
            for key in list(node) if isinstance(node, dict) else range(len(node)):
                yield node, key
                level.append(node[key])
