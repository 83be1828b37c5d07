"""The identity of a run: whether a later start resumes it, extends it, or must be refused.

`settings.json` records every setting and, under `contents`, digests of the weights, the tokenizer and each
target, and the model's config. A later start may add texts, learning rates and seeds, since lanes are
independent. Any other difference is refused and named. Paths may change as long as contents stay the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from jaxcram.errors import UserError
from jaxcram.results.rows import ROWS
from jaxcram.results.table import Job

FREE = {"token_budget", "remat", "log_every"}  # may change: they do not affect the procedure
GROWING = {"learning_rates", "seeds"}  # lists to which values may be added
# Replaced by digests of contents.
SOURCES = {
    *("model", "texts", "split", "column", "num_samples", "offset"),
    *("data", "shots_data", "limit", "samples", "run"),
}
PATHS = {"model", "texts"}  # earlier versions recorded them as given, not as absolute paths
CONTENTS = "contents"
_SHOWN = 40  # characters of a text that are shown to identify it
_MOST_DIFFERENCES = 5
_MISSING = "missing"


def target_digest(text: str, tokens: Iterable[int]) -> str:
    """A digest of a target's text and token ids."""
    ids = np.asarray(list(tokens), np.int32)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") + b"\0" + ids.tobytes()).hexdigest()[:16]


def contents(model: Mapping[str, Any], targets: Mapping[int, tuple[str, np.ndarray]]) -> dict[str, Any]:
    """The entry `contents` of settings.json.

    Args:
        model: digests of weights and tokenizer, and the config (see `jaxcram.models.port`).
        targets: text and token ids of every sample, by sample id.
    """
    texts = {
        str(sample_id): {"digest": target_digest(text, tokens), "begins": text[:_SHOWN]}
        for sample_id, (text, tokens) in sorted(targets.items())
    }
    return {"model": dict(model), "texts": texts}


def agreed(
    path: Path, was: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings to record for a run that resumes: the old ones, with added values.

    Args:
        path: the run directory; its finished lanes must match `now`.
        was: the recorded settings, perhaps by an earlier version.
        now: those of this start.
        defaults: values of settings that `was` does not have.

    Raises:
        UserError: `now` changes or lacks something; the message names each difference.
    """
    was = {**{name: value for name, value in defaults.items() if name in now}, **was}
    known = was.get(CONTENTS) or {}
    differences = [*sorted(_settings_differ(path, was, now)), *_contents_differ(known, now.get(CONTENTS, {}))]
    refuse(
        path,
        differences or list(_shards_differ(path, now)),
        "texts, learning_rates and seeds may be added",
    )
    return {name: was[name] if name in FREE and name in was else value for name, value in now.items()}


def refuse(path: Path, differences: Sequence[str], allowed: str) -> None:
    """Raises UserError where there are differences; `allowed` says what may differ."""
    if differences:
        more = len(differences) - _MOST_DIFFERENCES
        listed = "; ".join(differences[:_MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise UserError(
            f"{path}: the run has other settings ({listed}); choose another directory or the run's own "
            f"settings; only {allowed}"
        )


def settings_differ(was: Mapping[str, Any], now: Mapping[str, Any], free: Set[str]) -> Iterator[str]:
    """The settings, apart from `free`, that are not the same, contents aside."""
    old, new = dict(_leaves(was)), dict(_leaves(now))
    for name in sorted((old.keys() | new.keys()) - free):
        if name not in old or name not in new or old[name] != new[name]:
            yield f"{name}: was {_shown(old, name)}, is {_shown(new, name)}"


def _settings_differ(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    free = FREE
    if CONTENTS in was:
        free = FREE | SOURCES
    elif CONTENTS in now and (path / "summary.json").exists():  # the rows of a finished run have all texts
        free = FREE | SOURCES - {"model"}
    for name in PATHS:
        if CONTENTS not in was and _absolute(was.get(name)) == _absolute(now.get(name)):
            free = free | {name}
    for name in sorted(GROWING):
        before, after = was.get(name), now.get(name)
        if isinstance(before, list) and isinstance(after, list):
            free = free | {name}
            if lost := [value for value in before if value not in after]:
                yield f"{name}: {', '.join(map(str, lost))} {_MISSING}"
    yield from settings_differ(was, now, free)


def _absolute(path: Any) -> Any:
    """The absolute path, if it exists; else the name itself."""
    return str(Path(path).absolute()) if isinstance(path, str) and os.path.exists(path) else path


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            if prefix or name != CONTENTS:
                yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(leaves: Mapping[str, Any], name: str) -> str:
    return json.dumps(leaves[name], ensure_ascii=False) if name in leaves else "absent"


def _contents_differ(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    yield from model_differs(was.get("model", {}), now.get("model", {}))
    new = now.get("texts", {})
    for sample, text in was.get("texts", {}).items():
        if sample not in new:
            yield f"texts: sample {sample}, {text['begins']!r}, {_MISSING}"
        elif new[sample]["digest"] != text["digest"]:
            is_now = new[sample]["begins"]
            rest = "" if is_now != text["begins"] else " with another end or other tokens"
            yield f"texts: sample {sample} was {text['begins']!r}, is {is_now!r}{rest}"


def model_differs(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """How a model differs from the one of a run, in the entries that both have."""
    old, new = dict(_leaves(was)), dict(_leaves(now))
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            digest = isinstance(old[name], str)
            yield f"model: different {name}" if digest else f"model: {name} was {old[name]}, is {new[name]}"


def require_model(path: Path, settings: Mapping[str, Any], name: str, contents: Mapping[str, Any]) -> None:
    """Checks that a model is the one that a run was made with, in the entries that both have.

    Args:
        path: the run directory, for the message.
        settings: the recorded ones.
        name: of the model, for the message.
        contents: of the model, as runs record them.

    Raises:
        UserError: it is another one; the message names each difference.
    """
    if others := list(model_differs(settings.get(CONTENTS, {}).get("model", {}), contents)):
        raise UserError(
            f"{path}: {name} is not the model that the run was made with ({'; '.join(others)}); give that one"
        )


def _shards_differ(path: Path, now: Mapping[str, Any]) -> Iterator[str]:
    """Finished lanes that do not match `now`; unreadable shards are left out, as their lanes run again."""
    if CONTENTS not in now:
        return
    texts = now[CONTENTS]["texts"]
    weights = now[CONTENTS]["model"].get("weights")
    columns = ["sample_id", "learning_rate", "seed", "text", "target_ids", "weights_digest"]
    for file in ROWS.shards(path / ROWS.name):
        try:
            rows = [table.slice(0, 1).to_pylist()[0] for table in ROWS.tables(file, columns)]
        except (ValueError, IndexError):
            continue
        for row in rows:
            job = Job.of_row(row)
            asked = texts.get(str(job.sample_id))
            lanes = job.learning_rate in now["learning_rates"] and job.seed in now["seeds"]
            if asked is None or not lanes:
                yield f"rows/{file.name}: not one of this start's lanes"
            elif asked["digest"] != target_digest(row["text"] or "", row["target_ids"] or ()):
                yield f"rows/{file.name}: text was {(row['text'] or '')[:_SHOWN]!r}, is {asked['begins']!r}"
            elif row.get("weights_digest") and weights and row["weights_digest"] != weights:
                yield f"rows/{file.name}: different weights"


@dataclasses.dataclass(frozen=True)
class RunKind:
    """A kind of run: what its directory holds, and which of its settings may change.

    Attributes:
        program: that makes such runs; recorded as `program` in settings.json, which runs of `cram` lack.
        tables: folders of its tables, made when the run is opened.
        agreed: (path, recorded settings, those of this start, defaults) -> settings to record; raises
            UserError if they belong to different runs (see `agreed`).
    """

    program: str
    tables: tuple[str, ...]
    agreed: Callable[[Path, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


LANES = RunKind("cram", (ROWS.name,), agreed)
