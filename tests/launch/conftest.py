"""Launchers are programs, not a package: their modules are found in their own folder."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "launch"))


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a program on the PATH: `stub(name, body of a bash script)`; it comes before all others."""
    folder = tmp_path / "stub bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name: str, body: str) -> Path:
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{body}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def sweep_program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Calls sweep.py with a command line, in this process, from the checkout; its exit code."""
    import sweep

    monkeypatch.chdir(ROOT)

    def call(*argv: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sweep.py", *argv])
        return sweep.start()

    return call
