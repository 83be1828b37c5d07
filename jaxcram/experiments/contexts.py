"""The items of a task, and the embeddings into which their contexts are crammed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcram.cram.rows import Outcome
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import Prepared, carry_out, prepare
from jaxcram.errors import UserError
from jaxcram.evaluate.choices import Choices, encode_items
from jaxcram.evaluate.settings import TaskSettings
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.evaluate.tasks.task import Item
from jaxcram.loading import Model
from jaxcram.results import identity
from jaxcram.results.directory import RunDirectory
from jaxcram.results.paths import recorded
from jaxcram.results.reading import load_summary
from jaxcram.results.table import Job
from jaxcram.runs import Run, stored_outcomes
from jaxcram.text.sources import TextSettings
from jaxcram.text.tokens import Sample


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
    items = load_items(
        find_task(task.task), data=task.data, limit=task.limit, samples=task.samples, num_shots=0
    )
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
        for text in (item.context, *item.texts):
            model.decoder.config.require_ids(text, f"item {item.id}")
    return Items(task, items, choices)


@dataclasses.dataclass(frozen=True, eq=False)
class Crammed:
    """The embeddings of I items.

    Attributes:
        jobs: the lane of each.
        mem_IxKxD: fp32; zeros for an item without one: nothing of it became exact, or its lane diverged.
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
    prepared = prepare(model, samples, source_of(found.task), settings)
    run = cram_below(directory, prepared, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
    return embeddings(run, model, [item.id for item in found.items])


def source_of(task: TaskSettings) -> TextSettings:
    """A task as the source of texts that the run of its crams records."""
    return TextSettings(texts=f"task:{task.task}", bos=task.bos)


def cram_below(
    directory: RunDirectory, prepared: Prepared, *, verbose: bool, checkpoint_minutes: float
) -> Run:
    """The run that crams for an experiment, in `crams/` of its directory; many lanes share a file."""
    return carry_out(
        prepared,
        directory.path / "crams",
        verbose=verbose,
        checkpoint_minutes=checkpoint_minutes,
        compact=True,
    )


def cost_of_crams(directory: RunDirectory) -> dict[str, Any]:
    """What the summary of an experiment says of the run of its crams."""
    crams = load_summary(directory.path / "crams")
    names = ("mode", "wall_s", "compile_s", "passes", "lane_steps", "useful_share", "versions", "devices")
    return {name: crams[name] for name in names}


def embeddings(run: Run, model: Model, ids: Sequence[int]) -> Crammed:
    """The embedding of each of I samples of a run that has one lane a sample.

    Raises:
        UserError: the run was made with another model, a sample has no lane, or no embedding was stored.
    """
    return of_outcomes(run, model, stored_outcomes(run, model).outcomes, ids)


def of_outcomes(run: Run, model: Model, outcomes: Iterable[Outcome], ids: Sequence[int]) -> Crammed:
    """As `embeddings`, from the run's outcomes."""
    by_id = {outcome.job.sample_id: outcome for outcome in outcomes}
    if missing := set(ids) - by_id.keys():
        raise UserError(f"{run.path}: sample {min(missing)} has no lane; give samples that were crammed")
    chosen = [by_id[i] for i in ids]
    arrays = [None if outcome.row is None else outcome.row["embedding"] for outcome in chosen]
    if any(outcome.row is not None for outcome in chosen) and all(array is None for array in arrays):
        raise UserError(f"{run.path}: no embedding was stored; cram with trajectory=horizon")
    usable_I = np.asarray([array is not None and bool(np.isfinite(array).all()) for array in arrays])
    shape = (run.settings["num_memory"], model.decoder.config.width)
    mem_IxKxD = np.zeros((len(ids), *shape), np.float32)
    for number in np.flatnonzero(usable_I):
        mem_IxKxD[number] = arrays[number]
    whole_I = np.asarray([outcome.horizon == outcome.target_tokens for outcome in chosen])
    return Crammed([outcome.job for outcome in chosen], mem_IxKxD, usable_I, usable_I & whole_I)


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
        "num_shots": task.shots,
        identity.CONTENTS: contents,
    }
