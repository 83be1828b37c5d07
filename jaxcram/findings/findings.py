"""What the analyses found in one or several runs: rows, columns, table, JSON, CSV and figures."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxcram import documents, report
from jaxcram.analysis.spread import Column
from jaxcram.errors import UserError, printable
from jaxcram.findings import registry
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.source import Source
from jaxcram.results.table import JOB_COLUMNS, Job

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = list[dict[str, Any]]
# Settings that do not make a variant: what is crammed, how fast, and what columns tell anyway.
_NO_VARIANT = {
    *("contents", "dtype", "model", "learning_rates", "seeds"),
    *("texts", "split", "column", "num_samples", "offset", "max_tokens", "bos"),
    *("token_budget", "chunk_passes", "remat", "log_every", "trajectory"),
}


class _Place(NamedTuple):
    """What a column is about.

    Attributes:
        run: its directory.
        model: the last part of its name.
        settings: those in which the runs differ, as (name, value).
        learning_rate: None in a column of a whole run.
    """

    run: str
    model: str
    settings: tuple[tuple[str, str], ...]
    learning_rate: float | None = None

    def described(self) -> dict[str, Any]:
        """As rows and columns have it, but for the learning rate."""
        variant = ", ".join(f"{name}={value}" for name, value in self.settings)
        return {"run": self.run, "model": self.model, "variant": variant}


class Findings:
    """The findings of analyses in runs.

    Attributes:
        analyses: the analyses, in the order of the table.
        rows: the rows of each, by its name; each row says its `run` (the directory), `model` and `variant`
            (the settings in which the runs differ), and a row of a lane its `text`, a digest.
    """

    def __init__(self, sources: Sequence[Source], names: Sequence[str] = ()) -> None:
        """Analyses runs.

        Args:
            sources: the runs.
            names: of the analyses; none are those that take seconds.

        Raises:
            UserError: no run or the same one twice, an analysis that does not exist, or damaged rows.
        """
        self.analyses = registry.chosen(names)
        paths = [str(source.path) for source in sources]
        if not paths:
            raise UserError("no run to analyse; name at least one")
        resolved = [source.path.resolve() for source in sources]  # one run may have several paths
        if twice := [path for path, whole in zip(paths, resolved, strict=True) if resolved.count(whole) > 1]:
            raise UserError(f"{twice[-1]}: the run is given twice; name it once")
        variants = _variants([source.settings for source in sources])
        self._places = [
            _Place(str(source.path), _model(source.model_name), variant)
            for source, variant in zip(sources, variants, strict=True)
        ]
        self._sources, self._names = sources, _short(paths)
        self.rows: dict[str, Rows] = {analysis.name: [] for analysis in self.analyses}
        for source, place in zip(sources, self._places, strict=True):
            for analysis in self.analyses:
                self.rows[analysis.name] += _tagged(analysis.rows(source), source, place)

    @cached_property
    def lanes(self) -> Rows:
        """One row a lane: its job, and all values of the analyses of lanes but arrays, lists and tuples."""
        merged: dict[tuple[Any, ...], dict[str, Any]] = {}
        for analysis in self.analyses:
            for row in self.rows[analysis.name] if analysis.by_lane else ():
                key = (row["run"], *(row[name] for name in JOB_COLUMNS))
                _merge(merged.setdefault(key, {}), row)
        return list(merged.values())

    def columns(self, name: str) -> list[Column]:
        """The columns of an analysis: one per run and learning rate, or per run."""
        return [column for _, column in self._columns[self._analysis(name).name]]

    @cached_property
    def _columns(self) -> dict[str, list[tuple[_Place, Column]]]:
        return {analysis.name: list(self._split(analysis)) for analysis in self.analyses}

    def _split(self, analysis: Analysis) -> Iterator[tuple[_Place, Column]]:
        for place in self._all_places if analysis.by_lane else self._places:
            rows = [row for row in self.rows[analysis.name] if _is_of(row, place)]
            yield place, Column(self._label(place), rows, documents.plain(analysis.summary(rows)))

    @cached_property
    def _all_places(self) -> list[_Place]:
        """Of all runs and their learning rates."""
        return [
            place._replace(learning_rate=rate)
            for place, source in zip(self._places, self._sources, strict=True)
            for rate in sorted({lane["learning_rate"] for lane in source.lanes})
        ]

    def _label(self, place: _Place) -> str:
        same = [other for other in self._places if other.model == place.model]
        run = self._names[place.run] if len(same) > 1 else ""
        rate = "" if place.learning_rate is None else f"lr {place.learning_rate:g}"
        return ", ".join(filter(None, [place.model, run, rate]))

    def document(self) -> dict[str, Any]:
        """All of it as JSON takes it.

        `lanes` has a row a lane; each analysis has, by its name, its summary over all lanes of all runs;
        `columns` has these summaries again for each run and learning rate (null: for the whole run); `rows`
        has, by name, the rows of each analysis of whole runs.
        """
        places: dict[_Place, dict[str, Any]] = {}
        for name, columns in self._columns.items():
            for place, column in columns:
                told = {**place.described(), "learning_rate": place.learning_rate}
                places.setdefault(place, told)[name] = column.summary
        return {
            "lanes": documents.plain(self.lanes),
            **{one.name: documents.plain(one.summary(self.rows[one.name])) for one in self.analyses},
            "columns": list(places.values()),
            "rows": self._records,
        }

    @cached_property
    def _records(self) -> dict[str, Rows]:
        """The rows of each analysis of whole runs, as JSON takes them."""
        return {
            one.name: documents.plain((one.records or list)(self.rows[one.name]))
            for one in self.analyses
            if not one.by_lane
        }

    def json(self) -> str:
        """The document as JSON."""
        return documents.json_bytes(self.document()).decode().rstrip("\n")

    def csv(self) -> str:
        """The rows of `flat` as CSV; `as_published` becomes columns such as `as_published_horizon`."""
        rows = self.flat()
        header = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().rstrip("\n")

    def flat(self) -> Rows:
        """The lanes without values inside values: their names are joined by underscores.

        Where all analyses are of whole runs, their rows instead, without lists; `analysis` says of which.
        """
        if any(one.by_lane for one in self.analyses):
            return [dict(_flat(row)) for row in documents.plain(self.lanes)]
        return [
            {"analysis": name, **dict(_flat(row))} for name, rows in self._records.items() for row in rows
        ]

    def table(self) -> str:
        """A line a measure, a column a run and learning rate; below, analyses of whole runs."""
        if not self._all_places:
            return "no lane has ended yet"
        blocks = []
        for by_lane in (True, False):
            analyses = [analysis for analysis in self.analyses if analysis.by_lane == by_lane]
            if analyses:
                places = self._all_places if by_lane else self._places
                cells = {one.name: [one.lines(c.summary) for c in self.columns(one.name)] for one in analyses}
                blocks.append(report.columns_side_by_side(self._header(places), cells))
        return "\n\n".join([*blocks, report.ANALYSIS_NOTES])

    def _header(self, places: Sequence[_Place]) -> dict[str, list[str]]:
        several = len(self._places) > 1
        header = {"run": [self._names[place.run] for place in places]} if several else {}
        header["model"] = [place.model for place in places]
        for same in zip(*(place.settings for place in places), strict=True):
            header[same[0][0]] = [value for _, value in same]
        if any(place.learning_rate is not None for place in places):
            header["learning rate"] = [f"{place.learning_rate:g}" for place in places]
        return header

    def drawn(self) -> list[str]:
        """The names of the figures that have something to show."""
        return [name for one in self.analyses if self.rows[one.name] for name in one.figures]

    def figure(self, name: str) -> Figure:
        """A figure by its name.

        Raises:
            UserError: none of these analyses has it.
        """
        analysis = registry.drawing(name)
        return analysis.figures[name](self.columns(analysis.name))

    def files(self) -> dict[str, bytes]:
        """Other files of the analyses, such as animations: contents by name."""
        return {
            name: content
            for analysis in self.analyses
            if analysis.files is not None
            for name, content in analysis.files(self.columns(analysis.name)).items()
        }

    def _analysis(self, name: str) -> Analysis:
        known = {analysis.name: analysis for analysis in self.analyses}
        if name not in known:
            raise UserError(f"{name}: no such analysis here; choose from {', '.join(known)}")
        return known[name]

    def __repr__(self) -> str:
        runs, lanes = len(self._places), len(self.lanes)
        return f"Findings({runs} run{'' if runs == 1 else 's'}, {lanes} lanes: {', '.join(self.rows)})"


def _tagged(rows: Rows, source: Source, place: _Place) -> Rows:
    """The rows with what they are of; without those of lanes that the summary lacks."""
    return [
        {
            **place.described(),
            **({"text": source.text(row["sample_id"])} if "sample_id" in row else {}),
            **row,
        }
        for row in rows
        if not JOB_COLUMNS.keys() <= row.keys() or source.has(Job.of_row(row))
    ]


def _is_of(row: Mapping[str, Any], place: _Place) -> bool:
    return row["run"] == place.run and place.learning_rate in (None, row.get("learning_rate"))


def _merge(into: dict[str, Any], row: Mapping[str, Any]) -> None:
    """Adds values that are no arrays, lists or tuples; several analyses may add to one `as_published`."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(name, {}), value)
        elif not isinstance(value, list | tuple) and not getattr(value, "ndim", 0):
            into[name] = value


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}_")
        elif not isinstance(value, list):
            yield before + name, value


def _model(name: str) -> str:
    """The last part of a path or Hub name."""
    return printable(name.rstrip("/").rpartition("/")[2].removeprefix("jaxcram:"), keep="")[:40]


def _variants(settings: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str, str], ...]]:
    """The settings of the procedure in which runs differ, of each run, as (name, value)."""
    # Of an import only the split is shown: its sources are paths.
    settings = [
        {**one, "imported": one["imported"].get("split")} if "imported" in one else one for one in settings
    ]
    names = sorted({name for one in settings for name in one} - _NO_VARIANT)
    differing = [name for name in names if any(one.get(name) != settings[0].get(name) for one in settings)]
    return [tuple((name, _value(one.get(name))) for name in differing) for one in settings]


def _value(value: Any) -> str:
    return printable(f"{value:g}" if isinstance(value, float) else str(value), keep="")[:40]


def _short(paths: Sequence[str]) -> dict[str, str]:
    """Names of directories, as long as they have to be."""
    names = {path: os.path.basename(path) for path in paths}
    if len(set(names.values())) == len(paths):
        return names
    parent = os.path.commonpath(paths)
    return {path: os.path.relpath(path, parent) for path in paths}
