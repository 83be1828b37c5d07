"""Hostile input through the real command line: one line on stderr, exit code 2, no stack trace."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hostile import mutations, valid

pytestmark = pytest.mark.slow


def cases(folder: Path) -> dict[str, list[str]]:
    """Command lines, each with something hostile in it, by what that is."""

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    def spoilt(name: str, file: str, content: bytes) -> str:
        model = valid.model("llama", place(name))
        (model / file).write_bytes(content)
        return f"--model={model}"

    def text(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return f"--texts={folder / name}"

    config, tokenizer = valid.tree("llama", "config.json"), valid.tree("llama", "tokenizer.json")
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "(a+)+$"}
    run = valid.run(place("summary"))
    (run / "summary.json").write_bytes(b"[" * 100_000)
    shard = valid.run(place("shard"))
    next((shard / "rows").iterdir()).write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    escapes = valid.run(place("escapes"))
    settings = json.loads((escapes / "settings.json").read_text())
    (escapes / "settings.json").write_text(
        json.dumps(settings | {"model": mutations.ESCAPES, "mode": "\x1b[2J"})
    )
    out, prompt, model = (
        f"--out={folder / 'out'}",
        "--prompt=the end",
        f"--model={valid.model('neox', place('m'))}",
    )
    return {
        "deep config": ["generate", prompt, spoilt("a", "config.json", b"[" * 100_000)],
        "huge config": [
            "generate",
            prompt,
            spoilt("b", "config.json", json.dumps(config | {"num_hidden_layers": 10**9}).encode()),
        ],
        "header of 2^63 bytes": ["generate", prompt, spoilt("c", "model.safetensors", b"\xff" * 8 + b"{}")],
        "searching tokenizer": [
            "generate",
            f"{prompt} {'a' * 50}b",
            spoilt("d", "tokenizer.json", json.dumps(tokenizer).encode()),
        ],
        "prompt of no Unicode": ["generate", b"--prompt=\xff\xfe", model],
        "deep line": ["cram", model, out, text("a.jsonl", b'{"text": ' + b"[" * 100_000)],
        "half a parquet": ["cram", model, out, text("a.parquet", b"PAR1" + bytes(50))],
        "number of stories": ["cram", model, out, "--texts=stories:" + "9" * 30],
        "huge number": ["cram", "--max_steps=" + "9" * 30],
        "device of flags": ["cram", "--flagfile=/dev/zero"],
        "deep summary": ["show", f"--run={run}"],
        "damaged shard": ["decode", f"--run={shard}"],
        "escape codes": ["decode", f"--run={escapes}"],
    }


def test_one_line_and_exit_code_2(tmp_path, odd_environment):
    # Without the settings of JAX that are odd: each start would tell them in a line of its own.
    environment = {name: value for name, value in odd_environment.items() if not name.startswith("JAX_")}
    environment |= {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}

    def run(arguments: list[str]) -> subprocess.CompletedProcess:
        start = "import sys; from jaxcram.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", start, *arguments]
        return subprocess.run(command, capture_output=True, env=environment, timeout=120)

    lines = cases(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(lines, pool.map(run, lines.values()), strict=True))
    wrong = {
        name: (result.returncode, result.stderr[-500:])
        for name, result in results.items()
        if result.returncode != 2
        or result.stderr.count(b"\n") != 1
        or not result.stderr.startswith(f"jaxcram {lines[name][0]}: error: ".encode())
        or b"\x1b" in result.stderr + result.stdout
    }
    assert wrong == {}
