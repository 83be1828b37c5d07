"""Hostile config.json, safetensors files and their index, up to the refusal or the loaded decoder."""

import json
import random
from pathlib import Path
from typing import Any

from jaxcram.models import port
from jaxcram.text.tokens import load_tokenizer
from tests.hostile import mutations, valid
from tests.hostile.oracle import CANARY, Attack

_DTYPES = [
    "F64",
    "I64",
    "F8_E4M3",
    "BOOL",
    "U8",
    "F4",
    "F32",
    "BF16",
    "f32",
    "",
    None,
    5,
    ["F32"],
    "\x1b[31m",
    "F16",
]
_CODE = "import pathlib; pathlib.Path({0!r}).touch()"


def config(folder: Path, rng: random.Random) -> Attack:
    """config.json with hostile values, or of hostile bytes; a config as large as a galaxy takes no memory."""
    name = rng.choice(("llama", "neox"))
    model, tree = valid.model(name, folder), valid.tree(name, "config.json")
    if rng.random() < 0.3:
        for field in rng.sample([*tree, "head_dim", "rope_theta"], rng.choice((1, 2, 3))):
            tree[field] = rng.choice((10**9, 10**12, 2**31 - 1, 0, -1, True, 1.0, "2", 10**30))
        content = mutations.text(tree)
    else:
        content = mutations.document(rng, tree)
    (model / "config.json").write_bytes(content)
    if rng.random() < 0.05:
        mutations.obstacle(rng, model / "config.json")
    return _loading(model)


def safetensors(folder: Path, rng: random.Random) -> Attack:
    """A safetensors file with hostile header, lengths, offsets, shapes, types or bytes."""
    name = rng.choice(("llama", "neox"))
    model, file = valid.model(name, folder), folder / "model" / "model.safetensors"
    length, header, data = _split(file.read_bytes())
    action = rng.choice(("field",) * 5 + ("header", "length", "bytes", "data", "obstacle"))
    if action == "field":
        content = _with_header(mutations.text(_spoilt(rng, header)), data)
    elif action == "header":
        content = _with_header(mutations.document(rng, header), data)
    elif action == "length":
        lengths = (
            0,
            1,
            7,
            length - 1,
            length + 1,
            len(data) + length + 1,
            2**24,
            10**8,
            2**32,
            2**63 - 1,
            2**63,
            2**64 - 1,
        )
        content = rng.choice(lengths).to_bytes(8, "little") + file.read_bytes()[8:]
    elif action == "data":
        content = (
            file.read_bytes() + bytes(8)
            if rng.random() < 0.3
            else file.read_bytes()[: -rng.randrange(1, len(data))]
        )
    else:
        content = mutations.scramble(rng, file.read_bytes())
    file.write_bytes(content)
    if action == "obstacle":
        mutations.obstacle(rng, file)
    return _loading(model)


def index(folder: Path, rng: random.Random) -> Attack:
    """An index that names files outside of its directory, no files, or what is no name at all."""
    model = valid.model("llama", folder)
    _, header, _ = _split((model / "model.safetensors").read_bytes())
    (folder / "outside.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    tree: dict[str, Any] = {"weight_map": dict.fromkeys(header, "model.safetensors")}
    tree["weight_map"].pop("__metadata__", None)
    if rng.random() < 0.5:
        outside = "../outside.safetensors"
        places = (
            outside,
            str(folder / "outside.safetensors"),
            "/etc/passwd",
            "..",
            ".",
            "",
            "\0",
            "\ud800",
            "a" * 5000,
        )
        chosen = rng.choice(places)
        for tensor in rng.sample(sorted(tree["weight_map"]), rng.choice((1, 3, len(tree["weight_map"])))):
            tree["weight_map"][tensor] = chosen
        content, must_refuse = mutations.text(tree), True
    else:
        content, must_refuse = mutations.document(rng, tree), False
    (model / "model.safetensors.index.json").write_bytes(content)
    return Attack([lambda: port.load(model, dtype="float32")], [str(folder)], must_refuse)


def code(folder: Path, rng: random.Random) -> Attack:
    """Code beside the weights and inside of them, which would leave a file behind if it were ever run."""
    model = valid.model(rng.choice(("llama", "neox")), folder)
    canary = str(folder / CANARY)
    run = _CODE.format(canary)
    pickled = b"cbuiltins\nexec\n(V" + run.encode() + b"\ntR."
    if rng.random() < 0.5:
        (model / "model.safetensors").unlink()
    for file in ("pytorch_model.bin", "model.pt", "tokenizer.model", "training_args.bin"):
        (model / file).write_bytes(pickled)
    for file in (
        "modeling_evil.py",
        "configuration_evil.py",
        "tokenization_evil.py",
        "__init__.py",
        "setup.py",
    ):
        (model / file).write_text(run)
    classes = {"AutoConfig": "configuration_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    tree = valid.tree("llama", "config.json") | {
        "auto_map": classes,
        "trust_remote_code": rng.choice((True, False)),
    }
    (model / "config.json").write_bytes(mutations.text(tree))
    template = "{% set x = cycler.__init__.__globals__.os.system('touch " + canary
    tokenizer = valid.tree("llama", "tokenizer_config.json")
    tokenizer |= {
        "chat_template": template + "') %}",
        "auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]},
    }
    (model / "tokenizer_config.json").write_bytes(mutations.text(tokenizer))
    return Attack([lambda: port.load(model), lambda: load_tokenizer(model).encode("the end")], [str(model)])


def _loading(model: Path) -> Attack:
    return Attack([lambda: port.load(model, dtype="float32")], [str(model)])


def _split(content: bytes) -> tuple[int, dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return length, json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_header(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _spoilt(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    """The header with one entry hostile in the way of safetensors."""
    names = [name for name in header if name != "__metadata__"]
    name, other = rng.sample(names, 2)
    entry = header[name]
    start, end = entry["data_offsets"]
    action = rng.choice(
        ("overlap", "reverse", "beyond", "type", "overflow", "negative", "clash", "far", "extra", "empty")
    )
    if action == "overlap":
        header[other]["data_offsets"] = [start, end]
    elif action == "reverse":
        entry["data_offsets"] = [end, start]
    elif action == "beyond":
        entry["data_offsets"] = [start, end + rng.choice((1, 4, 2**31, 2**62, 2**64))]
    elif action == "type":
        entry["dtype"] = rng.choice(_DTYPES)
    elif action == "overflow":
        entry["shape"] = rng.choice(
            ([2**32, 2**32], [2**63, 2], [2**64, 1], [2**21] * 3, [10**30], [1] * 10_000)
        )
    elif action == "negative":
        entry["shape"] = [-size for size in entry["shape"]]
    elif action == "clash":
        header[rng.choice((name.upper(), name + "\0", name + " ", "../" + name, mutations.ESCAPES))] = (
            header.pop(name)
        )
    elif action == "far":
        entry["data_offsets"] = [2**63, 2**63 + end - start]
    elif action == "extra":
        header[str(mutations.value(rng))] = {
            "dtype": rng.choice(_DTYPES),
            "shape": [0, 2**60],
            "data_offsets": [end, end],
        }
    else:
        header["__metadata__"] = mutations.value(rng)
    return header


KINDS = {"config": (config, 260), "safetensors": (safetensors, 440), "index": (index, 80), "code": (code, 12)}
