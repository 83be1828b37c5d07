"""Who may import whom, read from the sources; and what a start of the command line may not load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxcram.cli import main

ROOT = Path(__file__).resolve().parents[1]

# A room (a package, or a module of the top level) and the rooms that it may import. It reads downwards only.
MAY_IMPORT = {
    "errors": set(),
    "documents": set(),
    "hub": {"errors"},
    "devices": {"errors"},
    "text": {"documents", "errors", "hub"},
    "results": {"devices", "documents", "errors", "hub"},
    "models": {"devices", "documents", "errors", "hub"},
    "forward": {"devices", "models"},
    "decode": {"devices", "forward", "models", "text"},
    "analysis": {"decode", "devices", "forward", "models", "results", "text"},
    "figures": {"analysis"},
    "cram": {"analysis", "decode", "devices", "errors", "forward", "models", "results", "text"},
    "evaluate": {"cram", "decode", "devices", "documents", "errors", "forward", "models", "results", "text"},
    "train": {"devices", "documents", "errors", "forward", "models", "results", "text"},
    "options": {"cram", "text"},
    "report": {"cram", "errors", "results"},
    "loading": {"devices", "errors", "models", "results", "text"},
    "findings": {"analysis", "devices", "documents", "errors", "figures", "loading", "report", "results"},
    "runs": {"cram", "devices", "errors", "findings", "loading", "report", "results", "text"},
    "interchange": {"cram", "errors", "hub", "loading", "results", "runs", "text"},
    "predictions": {"decode", "devices", "errors", "evaluate", "forward", "loading"},
    "cramming": {"cram", "devices", "errors", "loading", "report", "results", "runs", "text"},
    "experiments": {
        *(
            "cram",
            "cramming",
            "devices",
            "documents",
            "errors",
            "evaluate",
            "loading",
            "options",
            "report",
            "results",
        ),
        *("runs", "text"),
    },
    "api": {
        *("cram", "cramming", "devices", "errors", "experiments", "findings", "interchange", "loading"),
        "options",
        *("predictions", "report", "results", "runs", "text"),
    },
    "cli": {
        *("analysis", "api", "cram", "devices", "documents", "errors", "evaluate", "experiments", "figures"),
        *("report", "results", "text", "train"),
    },
    "__init__": {"api"},
}
# Other people's packages that only these modules may import.
ONLY = {
    "absl": {"cli.flags"},
    "datasets": {"interchange.saved", "text.tables"},
    "lm_eval": {"evaluate.lm_eval"},
    "matplotlib": {
        *(
            "cli.drawing",
            "cli.evaluate",
            "cli.knockout",
            "cli.reconstruct",
            "cli.show",
        ),  # for type checking
        *("findings.analysed", "findings.analysis", "findings.capacity", "findings.findings"),
        *("findings.landscape", "findings.lines", "findings.reconstruction", "findings.solutions"),
        *("findings.surprisal", "findings.walk", "figures.capacity", "figures.components"),
        *("figures.landscape", "figures.surprisal"),
        *("figures.curves", "figures.evaluation", "figures.knockout", "figures.reconstruction"),
        *("figures.run", "figures.solutions", "figures.style", "figures.walk"),
    },
    "pyarrow": {
        *("analysis.capacity", "findings.source"),
        *("analysis.surprisal", "cram.rows", "experiments.evaluation", "experiments.knockout"),
        *("experiments.reconstruction", "figures.curves", "figures.run", "results.reading"),
        *("interchange.exporting", "interchange.importing", "interchange.published", "interchange.saved"),
        *("results.schema", "results.shards", "results.table", "runs", "text.characters", "text.readers"),
    },
    "orbax": {"results.checkpoint"},
    "safetensors": {"models.port", "models.tensors"},
    "scipy": {
        *("analysis.interval", "analysis.jumps", "analysis.landscape", "analysis.solutions"),
        *("analysis.spread", "analysis.surprisal"),
        "evaluate.attention",
    },
    "torch": set(),
    "transformers": set(),
}
SLOW = {"datasets", "flax", "jax", "matplotlib", "optax", "orbax", "pyarrow", "scipy", "transformers"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    package = ROOT / "jaxcram"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is imported anywhere in a module, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_point_down_only():
    order = list(MAY_IMPORT)
    assert all(order.index(low) < order.index(high) for high, lows in MAY_IMPORT.items() for low in lows)
    wrong = {
        f"{name} imports {target}"
        for name, tree in modules()
        for room in [name.split(".")[0]]
        for target in imported(tree)
        if target.startswith("jaxcram.")
        and target.split(".")[1] != room
        and target.split(".")[1] not in MAY_IMPORT[room]
    }
    assert wrong == set()


def test_each_external_package_is_imported_only_where_allowed():
    wrong = {
        f"{name} imports {target}"
        for name, tree in modules()
        for target in imported(tree)
        if name not in ONLY.get(target.split(".")[0], {name})
    }
    assert wrong == set()


def loaded(statement: str, slow: set[str] = SLOW) -> set[str]:
    """Which of the slow packages a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_slow():
    assert loaded("import jaxcram") == set()


def test_the_interface_loads_nothing_that_only_some_calls_need():
    assert loaded("import jaxcram.api", {"datasets", "matplotlib", "pandas", "transformers"}) == set()


def test_listing_the_programs_does_not_load_absl():
    assert loaded("from jaxcram.cli.main import main; main(['--help'])", SLOW | {"absl", "numpy"}) == set()


@pytest.mark.parametrize("program", main.PROGRAMS)
def test_nothing_slow_is_loaded_before_the_flags_are_checked(program):
    right, wrong = f"main([{program!r}, '--help']) == 0", f"main([{program!r}, '--wrong']) == 2"
    assert loaded(f"from jaxcram.cli.main import main; assert {right} and {wrong}") == set()


def test_every_room_is_in_the_table():
    """Every room of the package is in the table, and no room of the table is missing."""
    assert {name.split(".")[0] for name, _ in modules()} == set(MAY_IMPORT)
