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
    "devices": {"errors"},
    "documents": set(),
    "compilation": set(),
    "stories": set(),
    "figures": set(),
    "tables": {"documents", "errors"},
    "rows": {"tables"},
    "curves": {"tables"},
    "disk": {"errors"},
    "finished": {"errors"},
    "identity": {"errors", "rows", "tables"},
    "log": set(),
    "results": {"curves", "disk", "documents", "errors", "finished", "identity", "log", "rows", "tables"},
    "characters": {"documents", "errors"},
    "readers": {"characters", "documents", "errors"},
    "hub": {"errors"},
    "sources": {"characters", "errors", "hub", "readers", "stories"},
    "tokenizer": {"characters", "documents", "errors", "hub"},
    "text": {"errors", "sources", "tokenizer"},
    "packed": set(),
    "mesh": {"errors", "packed"},
    "processes": {"devices", "errors"},
    "models": {"devices", "documents", "errors", "hub", "mesh"},
    "framing": {"models"},
    "decode": {"framing", "mesh", "models"},
    "pretrain": {"devices", "errors", "models", "sources", "stories", "text"},
    "cram": {
        "compilation",
        "decode",
        "devices",
        "disk",
        "documents",
        "errors",
        "framing",
        "mesh",
        "models",
        "packed",
        "processes",
        "results",
        "curves",
        "rows",
        "tables",
        "text",
    },
    "options": {"cram", "sources"},
    "report": {"cram", "errors", "results"},
    "api": {
        "compilation",
        "cram",
        "decode",
        "devices",
        "errors",
        "finished",
        "identity",
        "mesh",
        "models",
        "options",
        "processes",
        "report",
        "results",
        "sources",
        "text",
    },
    "cli": {
        "api",
        "cram",
        "devices",
        "disk",
        "documents",
        "errors",
        "figures",
        "pretrain",
        "processes",
        "report",
        "sources",
    },
    "__init__": {"api"},
}
# Other people's packages that only these modules may import.
ONLY = {
    "absl": {"cli.flags"},
    "datasets": {"sources"},
    "matplotlib": {"figures.curves", "figures.run", "figures.style"},
    "pyarrow": {
        *("api", "characters", "cram.rows", "figures.curves", "figures.run", "finished", "readers"),
        *("results", "tables"),
    },
    "safetensors": {"models.port", "models.tensors"},
    "torch": set(),
    "transformers": set(),
}
SLOW = {"datasets", "flax", "jax", "matplotlib", "optax", "orbax", "pyarrow", "transformers"}


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


def test_each_outside_package_has_its_door():
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


def test_listing_the_programs_does_not_even_load_absl():
    assert loaded("from jaxcram.cli.main import main; main(['--help'])", SLOW | {"absl", "numpy"}) == set()


@pytest.mark.parametrize("program", main.PROGRAMS)
def test_nothing_slow_is_loaded_before_the_flags_are_right(program):
    right, wrong = f"main([{program!r}, '--help']) == 0", f"main([{program!r}, '--wrong']) == 2"
    assert loaded(f"from jaxcram.cli.main import main; assert {right} and {wrong}") == set()


def test_the_walls_are_where_the_test_says():
    """Every room of the package is in the table, and no room of the table is missing."""
    assert {name.split(".")[0] for name, _ in modules()} == set(MAY_IMPORT)
