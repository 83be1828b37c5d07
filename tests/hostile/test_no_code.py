"""Nothing in the package runs what a file says: no pickles, no remote code, no evaluation."""

import ast
from collections.abc import Iterator

from tests.test_architecture import imported, modules

_EVALUATES = {"eval", "exec", "compile", "__import__"}
_UNPICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "yaml", "jinja2"}


def suspicious(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _EVALUATES:
            yield node.id
        if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle", "shell"):
            yield node.arg
        if isinstance(node, ast.Constant) and node.value == "trust_remote_code":
            yield node.value
    yield from (name for name in imported(tree) if name.split(".")[0] in _UNPICKLES)


def test_no_module_evaluates_or_unpickles():
    assert {(name, what) for name, tree in modules() for what in suspicious(tree)} == set()


def test_the_search_finds_what_it_should():
    source = (
        "import pickle\nfrom torch import load\neval('1')\nf(trust_remote_code=True)\n'trust_remote_code'"
    )
    found = ["eval", "trust_remote_code", "trust_remote_code", "pickle", "torch.load"]
    assert sorted(suspicious(ast.parse(source))) == sorted(found)
