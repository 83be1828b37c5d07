"""Hostile tokenizer.json and tokenizer_config.json, through loading, encoding and decoding."""

import random
from pathlib import Path
from typing import Any

from jaxcram.text.tokens import Text, load_tokenizer, tokenize
from tests.hostile import mutations, valid
from tests.hostile.oracle import Attack

TEXT = "the end of the story, \u00e9t\u00e9 \U0001f600 " + "a" * 40 + "b"
_PATTERNS = [
    r"(a+)+$",
    r"(a|a)*c",
    r"(a|aa)+$",
    r"(.*)*x",
    r"(?=(a+))\1+b",
    r"((a*)*)*b",
    "[",
    "(",
    "",
    r"\1",
    "a{99999}",
]
_MODELS: list[dict[str, Any]] = [
    {"type": "WordLevel", "vocab": {"the": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
    {"type": "WordPiece", "vocab": {"t": 0, "##he": 1}, "unk_token": "[UNK]", "max_input_chars_per_word": 5},
    {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [["<unk>", 0.0], ["the", -1.0], ["e", -2.0]],
        "byte_fallback": False,
    },
    {"type": "BPE", "vocab": {"t": 0, "h": 2**32 - 1, "th": 7}, "merges": ["t h"], "unk_token": None},
    {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"], ["aa", "aa"]], "dropout": 2.0},
]


def tokenizer(folder: Path, rng: random.Random) -> Attack:
    """tokenizer.json with hostile values, other models, patterns that search for ever, or hostile bytes."""
    model, tree = valid.model("llama", folder), valid.tree("llama", "tokenizer.json")
    action = rng.choice(("part", "part", "part", "pattern", "model", "ids", "bytes", "obstacle"))
    small = {**tree, "model": {**tree["model"], "vocab": dict(list(tree["model"]["vocab"].items())[:3])}}
    if action == "part":
        # Most of a tokenizer is its vocabulary; the parts are what is worth spoiling.
        part = rng.choice([name for name in tree if tree[name]])
        tree[part] = mutations.mutate(rng, tree[part])
        content = mutations.text(tree)
    elif action == "pattern":
        tree["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": rng.choice(_PATTERNS)}
        if rng.random() < 0.3:
            tree["normalizer"] = {
                "type": "Replace",
                "pattern": {"Regex": rng.choice(_PATTERNS)},
                "content": "b" * 9,
            }
        content = mutations.text(tree)
    elif action == "model":
        tree["model"] = (
            mutations.mutate(rng, rng.choice(_MODELS)) if rng.random() < 0.7 else rng.choice(_MODELS)
        )
        content = mutations.text(tree)
    elif action == "ids":
        for token in rng.sample(sorted(tree["model"]["vocab"]), 5):
            tree["model"]["vocab"][token] = rng.choice((2**31, 2**32 - 1, 2**32, 10**12, 0, -1, 299, 300))
        content = mutations.text(tree)
    else:
        content = mutations.document(rng, small)
    (model / "tokenizer.json").write_bytes(content)
    if action == "obstacle":
        mutations.obstacle(rng, model / "tokenizer.json")
    return Attack([lambda: _use(model, rng)], [str(model), "sample 0", "unpaired surrogate"])


def tokenizer_config(folder: Path, rng: random.Random) -> Attack:
    """tokenizer_config.json with hostile values or bytes."""
    model = valid.model("llama", folder)
    (model / "tokenizer_config.json").write_bytes(
        mutations.document(rng, valid.tree("llama", "tokenizer_config.json"))
    )
    if rng.random() < 0.1:
        mutations.obstacle(rng, model / "tokenizer_config.json")
    return Attack([lambda: _use(model, rng)], [str(model), "sample 0", "unpaired surrogate"])


def _use(model: Path, rng: random.Random) -> None:
    loaded = load_tokenizer(model)
    bos = rng.choice((None, True, False))
    texts = [Text(0, rng.choice((TEXT, "the", "a\0b\ud800", "\ufeff\u202e <s> </s>")))]
    for sample in tokenize(texts, loaded, max_tokens=None, bos=bos, max_positions=4096):
        loaded.decode(sample.tokens.tolist())
    loaded.decode([rng.choice((0, 299, 300, 2**31 - 1))])


KINDS = {"tokenizer": (tokenizer, 300), "tokenizer_config": (tokenizer_config, 70)}
