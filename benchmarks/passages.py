"""Passages of novels for the other programs' --texts: paragraphs drawn at random from .txt files.

    python benchmarks/passages.py --novels=DIR --count=32 --json=passages.jsonl
    python benchmarks/schedule.py --texts=passages.jsonl --num_samples=32 --noalone

Every novel is as likely as every other, and so is every paragraph of it that is long enough; none comes
twice. The same folder and seed give the same passages. One JSON line each, with the novel it is from.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import measure
import numpy as np
import workload

from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    novels: str = ""
    count: int = 32
    min_characters: int = 400
    max_characters: int = 1000
    seed: int = 0
    json: str | None = None

    def __post_init__(self) -> None:
        if not Path(self.novels).is_dir() or not self.novels:
            raise UserError(f"--novels={self.novels}: no directory; give one with .txt files")
        if self.count < 1:
            raise UserError(f"--count={self.count}: at least 1")
        if not self.json:
            raise UserError("--json is needed: the file for the passages")
        if Path(self.json).exists():
            raise UserError(f"--json={self.json}: exists; choose another name or remove it")


TOPICS = {
    "Passages": {
        "novels": Doc("Directory of .txt files, each a novel with a paragraph a line"),
        "count": Doc("How many passages", "passages"),
        "min_characters": Doc("Leave out shorter paragraphs", "characters"),
        "max_characters": Doc("Leave out longer ones", "characters"),
        "seed": Doc("Of the draw"),
    },
    "Results": {"json": Doc("File for the passages, one JSON line each", unset="none, and it is needed")},
}


def drawn(command: Command) -> list[dict[str, str]]:
    """The passages, in the order of the draw."""
    paragraphs = {}
    for novel in sorted(Path(command.novels).glob("*.txt")):
        lines = dict.fromkeys(novel.read_text(encoding="utf-8", errors="replace").splitlines())
        fitting = [line for line in lines if command.min_characters <= len(line) <= command.max_characters]
        if fitting:
            paragraphs[novel.stem] = fitting
    if sum(map(len, paragraphs.values())) < command.count:
        raise UserError(f"--count={command.count}: {command.novels} has fewer lines that long")
    random, passages = np.random.default_rng(command.seed), []
    while len(passages) < command.count:
        novel = sorted(paragraphs)[random.integers(len(paragraphs))]
        text = paragraphs[novel].pop(random.integers(len(paragraphs[novel])))
        passages.append({"text": text, "novel": novel})
        if not paragraphs[novel]:
            del paragraphs[novel]
    return passages


def main(command: Command) -> None:
    passages = drawn(command)
    measure.write_json_lines(passages, command.json)
    print(f"{command.json}: {len(passages)} passages, {len({each['novel'] for each in passages})} novels")


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)
