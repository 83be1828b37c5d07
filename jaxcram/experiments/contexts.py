"""The items of a task, and the embeddings into which their contexts are crammed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import carry_out, prepare
from jaxcram.errors import UserError
from jaxcram.evaluate.choices import Choices, encode_items
from jaxcram.evaluate.settings import TaskSettings
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.evaluate.tasks.task import Item
from jaxcram.loading import Model
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import recorded
from jaxcram.results.reading import load_lanes
from jaxcram.results.table import Job
from jaxcram.runs import Run
from jaxcram.text.sources import TextSettings
from jaxcram.text.tokens import Sample

GROUP = 64  # ids of items that are scored together and share a file


class Items(NamedTuple):
    """Items of a task.

    Attributes:
        task: its settings.
        items: as they were read; choices: the same in tokens.
    """

    task: TaskSettings
    items: list[Item]
    choices: list[Choices]


def load(task: TaskSettings, model: Model, num_memory: int) -> Items:
    """The items of a task, in tokens of a model.

    Raises:
        UserError: they cannot be read, or do not fit the model.
    """
    items = load_items(find_task(task.task), data=task.data, limit=task.limit, samples=task.samples)
    choices = encode_items(
        items,
        model.tokenizer,
        max_positions=model.decoder.config.max_positions,
        num_memory=num_memory,
        bos=task.bos,
    )
    for item in choices:
        if len(item.context) < 2:
            raise UserError(
                f"item {item.id}: its context has fewer than 2 tokens ({len(item.context)}), so there is "
                "nothing to cram; choose other samples"
            )
        for text in item.texts:
            model.decoder.config.require_ids(text, f"item {item.id}")
    return Items(task, items, choices)


@dataclasses.dataclass(frozen=True, eq=False)
class Crammed:
    """The embeddings of I items.

    Attributes:
        jobs: the lane of each.
        mem_IxKxD: fp32; zeros for an item whose lane left none that is finite.
        usable_I: whether there is one.
        converged_I: whether it reproduces the whole context.
    """

    jobs: list[Job]
    mem_IxKxD: np.ndarray
    usable_I: np.ndarray
    converged_I: np.ndarray


def cram_contexts(
    directory: RunDirectory,
    model: Model,
    found: Items,
    settings: CramSettings,
    *,
    verbose: bool,
    checkpoint_minutes: float,
) -> Crammed:
    """The embeddings of all contexts, from a run below the directory."""
    samples = [
        Sample(item.id, item.context.rstrip(), choices.context)
        for item, choices in zip(found.items, found.choices, strict=True)
    ]
    source = TextSettings(texts=f"task:{found.task.task}", bos=found.task.bos)
    run = carry_out(
        prepare(model, samples, source, settings),
        directory.path / "crams",
        verbose=verbose,
        checkpoint_minutes=checkpoint_minutes,
        compact=True,
    )
    return embeddings(run, [item.id for item in found.items])


def embeddings(run: Run, ids: Sequence[int]) -> Crammed:
    """The embedding of each of I samples of a run that has one lane a sample.

    Raises:
        UserError: a sample has no lane, or no embedding was stored.
    """
    mode, wanted = run.settings["mode"], set(ids)
    lanes: dict[int, tuple[Job, np.ndarray | None, bool]] = {}
    for job, table in load_lanes(run.path):
        if job.sample_id not in wanted:
            continue
        outcome = Outcome.of_table(table, mode)
        stored = table["embedding"].drop_null()
        embedding = outcome.row["embedding"] if outcome.row is not None else None
        if embedding is None and len(stored):
            embedding = stored[len(stored) - 1].as_py()
        array = None if embedding is None else np.asarray(embedding, np.float32)
        lanes[job.sample_id] = (job, array, outcome.horizon == outcome.target_tokens)
    if missing := wanted - lanes.keys():
        raise UserError(f"{run.path}: sample {min(missing)} has no lane; give samples that were crammed")
    shape = next((array.shape for _, array, _ in lanes.values() if array is not None), None)
    if shape is None:
        raise UserError(f"{run.path}: no embedding was stored; cram with trajectory=horizon")
    usable_I = np.zeros(len(ids), bool)
    mem_IxKxD = np.zeros((len(ids), *shape), np.float32)
    for number, i in enumerate(ids):
        array = lanes[i][1]
        if array is not None and np.isfinite(array).all():
            mem_IxKxD[number], usable_I[number] = array, True
    whole_I = np.asarray([lanes[i][2] for i in ids], bool)
    return Crammed([lanes[i][0] for i in ids], mem_IxKxD, usable_I, usable_I & whole_I)


def groups(ids: Sequence[int], done: set[int], size: int = GROUP) -> list[list[int]]:
    """Positions of the items that are not done, those of `size` neighbouring ids together."""
    found: dict[int, list[int]] = {}
    for position, i in enumerate(ids):
        if i not in done:
            found.setdefault(i // size, []).append(position)
    return [found[number] for number in sorted(found)]


def settings_of(model: Model, task: TaskSettings, settings: CramSettings, found: Items) -> dict[str, Any]:
    """What settings.json records of items whose endings are scored."""
    whole = {
        item.id: (
            item.context,
            [item.context, item.endings, item.label],
            np.concatenate([choices.context, *choices.texts]),
        )
        for item, choices in zip(found.items, found.choices, strict=True)
    }
    return recorded_settings(model, task, settings, whole)


def recorded_settings(
    model: Model,
    task: TaskSettings,
    settings: CramSettings,
    items: Mapping[int, tuple[str, list[Any], np.ndarray]],
) -> dict[str, Any]:
    """What settings.json of an evaluation records.

    Args:
        model: that is evaluated.
        task, settings: of the items and of the crams.
        items: by id, what shows a person which item it is, and all that its results depend on: values and
            tokens.
    """
    digested = {i: (json.dumps(values), tokens) for i, (_, values, tokens) in items.items()}
    contents = identity.contents(model.contents, digested)
    for i, (begins, _, _) in items.items():
        contents["texts"][str(i)]["begins"] = begins[:40]
    return {
        **settings.resolved(model=model.name, dtype=str(np.dtype(model.decoder.dtype))),
        **dataclasses.asdict(task),
        "data": None if task.data is None else recorded(task.data),
        "shots_data": None if task.shots_data is None else recorded(task.shots_data),
        identity.CONTENTS: contents,
    }
