"""Hostile command lines: values of every type for every flag, flags that are none, and files of flags."""

import itertools
import random
from pathlib import Path

from jaxcram.cli import flags
from jaxcram.cli.main import PROGRAMS, program_of
from tests.hostile import mutations
from tests.hostile.oracle import Attack

_WRITTEN = [
    *(
        "",
        "0",
        "-1",
        "1",
        "1.5",
        "1e400",
        "-1e-400",
        "nan",
        "inf",
        "-inf",
        "0x10",
        "1_000",
        " 7 ",
        "\u0663",
        "9" * 5000,
    ),
    *(
        "true",
        "no",
        "maybe",
        "1,2",
        "1,,2",
        ",",
        "0.1,nan",
        "None",
        "\0",
        "\ud800",
        "\x1b[31m",
        "a" * 10_000,
        "../..",
        "$(id)",
    ),
    *(
        str(2**31 - 1),
        str(2**31),
        str(2**63),
        str(-(2**31)),
        "llama",
        "--seed=3",
        "@file",
        "%s",
        "{}",
        "'",
        '"',
    ),
]
_ODD = [
    *(
        "-",
        "--",
        "---",
        "--=",
        "--=x",
        "-x",
        "--no",
        "--help=3",
        "--undefok=x",
        "--undefok",
        "stray",
        "",
        "\0",
        "--\x1b[31m=1",
    ),
    *(
        "--seed",
        "--nomodel",
        "--noseed=1",
        "--flagfile",
        "--flagfile=",
        "--flagfile=/",
        "--\ud800=1",
        "--flagfile=\0",
    ),
]


def command(folder: Path, rng: random.Random) -> Attack:
    """A few flags of a program, each with a hostile value, and now and then a file of them."""
    program = program_of(rng.choice(sorted(PROGRAMS)))
    names = [name for docs in program.TOPICS.values() for name in docs]
    line = [_one(names, rng) for _ in range(rng.choice((1, 1, 2, 4)))]
    if rng.random() < 0.3:
        file = folder / "some.flags"
        line.insert(rng.randrange(len(line) + 1), f"--flagfile={file}")
        _write(file, names, rng)
    return Attack(
        [lambda: flags.parse(program.Command, program.TOPICS, line)], ["flag", "--", "argument", *names]
    )


def _one(names: list[str], rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(_ODD)
    prefix, sign = rng.choice(("--", "--", "--", "--no")), rng.choice(("=", "=", "=", "", "=="))
    return prefix + rng.choice(names) + sign + rng.choice(_WRITTEN)


def _write(file: Path, names: list[str], rng: random.Random) -> None:
    """A file of flags: of lines, of itself, of bytes, or of a hundred files that name each other."""
    action = rng.choice(("lines", "lines", "itself", "bytes", "chain", "obstacle", "absent"))
    if action == "lines":
        lines = [_one(names, rng) for _ in range(3)] + ["# a comment", "// another", "\t--seed=1"]
        file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    elif action == "itself":
        file.write_text(f"--flagfile={file}\n--flagfile={file}\n")
    elif action == "bytes":
        file.write_bytes(mutations.scramble(rng, b"--seed=3\n--model=x\n"))
    elif action == "chain":
        files = [file, *(file.with_name(f"{i}.flags") for i in range(100))]
        for this, following in itertools.pairwise(files):
            this.write_text(f"--flagfile={following}\n")
        files[-1].write_text("--seed=1\n")
    elif action == "obstacle":
        file.touch()
        mutations.obstacle(rng, file)


KINDS = {"command": (command, 420)}
