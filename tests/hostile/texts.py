"""Hostile texts: paragraphs, JSON lines, CSV, Parquet, directories, and sources that name none of them."""

import bz2
import gzip
import json
import lzma
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jaxcram.text.tokens import load_texts, load_tokenizer, tokenize
from tests.hostile import mutations, valid
from tests.hostile.oracle import Attack

_PIECES = [
    *(
        "The end.",
        "\n\n",
        "\n",
        "\r\n",
        "\r",
        "\0",
        "\ufeff",
        "\u2028",
        "\x1b[31m",
        "\u202e",
        "\U0001f600",
        "\u00e9",
        " ",
    ),
    *("a" * 10_000, "\t", ",", '"', '""', "'", "text", '{"text": "x"}', "\x0b\x0c\x1c", "\u3000"),
]


def txt(folder: Path, rng: random.Random) -> Attack:
    """Plain text with every kind of white space, control character and broken encoding."""
    content = "".join(rng.choices(_PIECES, k=rng.choice((0, 1, 3, 20, 60)))).encode()
    for bad in rng.sample([b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80"], rng.choice((0, 0, 0, 1))):
        place = rng.randrange(len(content) + 1)
        content = content[:place] + bad + content[place:]
    name = rng.choice(
        (
            "texts.txt",
            "texts.txt",
            "texts.md",
            "\x1b[31m.txt",
            "\ud83d.txt".encode("utf-8", "replace").decode(),
        )
    )
    return _of_file(folder / name, content, rng)


def jsonl(folder: Path, rng: random.Random) -> Attack:
    """JSON lines, some with hostile values, some of hostile bytes."""
    lines = [json.dumps({"text": f"Story {i}.", "id": i}).encode() for i in range(4)]
    for _ in range(rng.choice((1, 2))):
        lines[rng.randrange(4)] = mutations.document(rng, {"text": "Story.", "id": 5}).replace(b"\n", b" ")
    return _of_file(folder / "texts.jsonl", b"\n".join(lines), rng)


def whole_json(folder: Path, rng: random.Random) -> Attack:
    """A .json file of hostile rows or bytes: an array, values one after the other, or one object."""
    rows = [{"text": f"Story {i}."} for i in range(4)]
    lines = [json.dumps(rng.choice((row, row["text"]))).encode() for row in rows]
    lines[rng.randrange(4)] = mutations.document(rng, rows[0])
    content = rng.choice((b"[" + b",".join(lines) + b"]", b"\n".join(lines), lines[0], b"[" + lines[0]))
    return _of_file(folder / "texts.json", content, rng)


def compressed(folder: Path, rng: random.Random) -> Attack:
    """Text that is compressed, and then truncated, damaged, or compressed in another way than named."""
    ways: list[Any] = [gzip.compress, bz2.compress, lzma.compress, pa.Codec("zstd").compress]
    content = rng.choice(ways)(b'{"text": "The end."}\n' * rng.choice((1, 1000, 100_000)))
    if not isinstance(content, bytes):
        content = content.to_pybytes()
    if rng.random() < 0.6:
        content = rng.choice((mutations.scramble(rng, content), content[: rng.randrange(len(content))]))
    return _of_file(folder / f"texts.jsonl{rng.choice(('.gz', '.bz2', '.xz', '.zst'))}", content, rng)


def csv(folder: Path, rng: random.Random) -> Attack:
    """CSV with quotes that never close, rows of other lengths, nulls and hostile headers."""
    rows = ["id,text", '1,"The end."', '2,"a ""quoted"" end"', "3,plain"]
    for _ in range(rng.choice((1, 1, 2))):
        rows[rng.randrange(4)] = rng.choice(
            ('"', 'x,"y', ",,,,,", "", "\0", 'a"b,c', '"a"b,c', "text", "id,id", "," * 5000, "\x1b[2J,x")
        )
    content = "\n".join(rows).encode()
    return _of_file(
        folder / "texts.csv", mutations.scramble(rng, content) if rng.random() < 0.3 else content, rng
    )


def parquet(folder: Path, rng: random.Random) -> Attack:
    """Parquet of other types, or damaged."""
    columns: list[Any] = [
        pa.array(["one", "two", None]),
        pa.array([1, 2, 3]),
        pa.array([b"\xff", b"\0", b"x"]),
        pa.array([b"\xff\xfe", b"two", b"three"]).view(pa.string()),
        pa.array([2**62] * 3, pa.timestamp("us")),
        pa.array([["one"], [], None]),
        pa.array([{"text": "x"}] * 3),
        pa.array(["a", "a", "b"]).dictionary_encode(),
        pa.nulls(3),
        pa.array(["x" * 10_000] * 3, pa.large_string()),
    ]
    file = folder / "texts.parquet"
    names = rng.choice((["text"], ["text"], ["text"], ["other"], ["text", "text"], ["\x1b[31m"], [""]))
    pq.write_table(pa.Table.from_arrays([rng.choice(columns) for _ in names], names=names), file)
    content = file.read_bytes()
    return _of_file(file, mutations.scramble(rng, content) if rng.random() < 0.6 else content, rng)


def directory(folder: Path, rng: random.Random) -> Attack:
    """Directories of odd files, odd names and things that are no files."""
    place = folder / "texts"
    place.mkdir()
    for name in rng.sample(
        ["a.txt", "b.txt", "c.jsonl", ".d.txt", "e.csv", "f", "\x1b[31m.txt", "-g.txt"], rng.choice((0, 1, 3))
    ):
        (place / name).write_text(rng.choice(("The end.", "", "\n", '{"text": "x"}')))
    if rng.random() < 0.6:
        mutations.obstacle(rng, place / rng.choice(("z.txt", "z.jsonl", "z.csv", "z.parquet")))
    return _attack(place, rng)


def source(folder: Path, rng: random.Random) -> Attack:
    """Sources that are no file: hostile numbers, names, paths and keywords."""
    specs = (
        *(
            "",
            "\0",
            "stories:",
            "stories:-1",
            "stories:1e9",
            "stories:" + "9" * 30,
            "stories:\u0663",
            "stories:1\n",
            "stories",
        ),
        *(
            "a" * 5000,
            "/" * 300,
            "~nobody-there/x",
            "./absent.txt",
            "\ud800",
            "\x1b[31m",
            "/dev/zero",
            "/dev/null",
            "/proc/self/mem",
        ),
        *(
            "../" * 200 + "etc/passwd",
            "a b",
            "x:y:z",
            "-",
            "--",
            "%n",
            "passages\0",
            "/etc/shadow.txt/x",
            "http://x/y.txt",
        ),
    )
    numbers = (None, 0, -1, 1, 2, 2**63, 10**30)
    spec, count, offset = rng.choice(specs), rng.choice(numbers), rng.choice((0, 0, 0, *numbers[1:]))
    if spec in ("stories", "passages") and count not in (None, 0, -1, 1, 2):
        count = 1
    return Attack(
        [
            lambda: load_texts(
                spec, num_samples=count, offset=min(offset, 50) if spec == "stories" else offset
            )
        ],
        ["texts", "num_samples", "offset", spec[:20] or "texts"],
    )


def _of_file(file: Path, content: bytes, rng: random.Random) -> Attack:
    file.write_bytes(content)
    if rng.random() < 0.04:
        mutations.obstacle(rng, file)
    return _attack(file, rng)


def _attack(place: Path, rng: random.Random) -> Attack:
    settings = {
        "num_samples": rng.choice((None, None, 1, 3, 10**6)),
        "offset": rng.choice((0, 0, 0, 1, 100)),
        "column": rng.choice(("text", "text", "text", "id", "\x1b[31m", "")),
    }

    def use() -> None:
        texts = load_texts(str(place), **settings)
        tokenize(texts, _tokenizer(), max_tokens=rng.choice((None, 2, 40)), bos=None, max_positions=64)

    return Attack([use], ["texts", str(place.parent), "sample ", "offset", "num_samples"])


def _tokenizer() -> Any:
    return load_tokenizer(valid._model("llama"))


KINDS = {
    "txt": (txt, 140),
    "jsonl": (jsonl, 140),
    "json": (whole_json, 100),
    "compressed": (compressed, 80),
    "csv": (csv, 110),
    "parquet": (parquet, 120),
    "directory": (directory, 40),
    "source": (source, 60),
}
