"""All kinds of cases: how one is made from a seed, and how many of them run every time."""

from tests.hostile import checkpoints, commands, interrupted, runs, texts, vocabularies
from tests.hostile.oracle import Kind

KINDS: dict[str, tuple[Kind, int]] = {
    **checkpoints.KINDS,
    **vocabularies.KINDS,
    **texts.KINDS,
    **commands.KINDS,
    **runs.KINDS,
    **interrupted.KINDS,
}
