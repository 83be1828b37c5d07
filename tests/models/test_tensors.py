"""Files of weights: one checkpoint, whole, and of finite values; of a part no more is read than the part."""

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxcram.errors import UserError
from jaxcram.models import port, tensors
from jaxcram.models.decoder import Decoder

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
UP = "model.layers.1.mlp.up_proj.weight"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PARITY / "llama_plain", tmp_path / "llama"))


def shard(directory: Path, *, single: bool = False) -> dict[str, str]:
    """Divides the weights of a directory into two files with an index; `single` keeps the one file too."""
    stored = load_file(directory / "model.safetensors")
    weight_map = {name: (FIRST, SECOND)[len(name) % 2] for name in stored}
    for file in (FIRST, SECOND):
        save_file({name: x for name, x in stored.items() if weight_map[name] == file}, directory / file)
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    if not single:
        (directory / "model.safetensors").unlink()
    return weight_map


def message(directory: Path, **kwargs: str) -> str:
    with pytest.raises(UserError) as caught:
        port.load(directory, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_equal(first: Decoder, second: Decoder) -> None:
    assert first.config == second.config
    jax.tree.map(np.testing.assert_array_equal, first, second)


# One checkpoint


def test_shards_hold_the_same_as_one_file(llama: Path):
    shard(llama)
    assert_equal(port.load(llama), port.load(PARITY / "llama_plain"))


def test_shards_beside_one_file_are_two_checkpoints(llama: Path):
    shard(llama, single=True)
    assert message(llama) == (
        f"{llama}: more than one checkpoint: {INDEX} with {FIRST}, {SECOND}, and model.safetensors; "
        "remove the one that is not meant (with its index)"
    )
    (llama / INDEX).unlink()
    assert message(llama) == (
        f"{llama}: more than one checkpoint: model.safetensors, and {FIRST}, {SECOND}; "
        "remove the one that is not meant (with its index)"
    )
    (llama / "model.safetensors").unlink()
    assert message(llama) == f"{llama}: has {FIRST}, {SECOND}, but no {INDEX}; give a whole checkpoint"


def test_a_shard_of_another_save_is_refused(llama: Path):
    shard(llama)
    shutil.copy(llama / FIRST, llama / "model-00001-of-00003.safetensors")
    assert f"with {FIRST}, {SECOND}, and model-00001-of-00003.safetensors; remove the one" in message(llama)


def test_a_tensor_in_two_files_is_refused(llama: Path):
    weight_map = shard(llama)
    assert weight_map[UP] == SECOND
    first = load_file(llama / FIRST)
    save_file(first | {UP: load_file(llama / SECOND)[UP]}, llama / FIRST)
    assert message(llama) == (
        f"{llama}: {UP} is both in {FIRST} and in {SECOND}; keep the files of one checkpoint"
    )


@pytest.mark.parametrize("adapter", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_the_weights_is_refused(llama: Path, adapter: str):
    (llama / adapter).write_text("{}")
    assert message(llama) == (
        f"{llama}: has the adapter {adapter} beside model.safetensors; "
        "merge it into the weights, or remove it"
    )


def test_files_with_other_names_are_ignored(llama: Path):
    """An index that names the one file, and pickles, variants and other programs' files beside it."""
    weight_map = dict.fromkeys(load_file(llama / "model.safetensors"), "model.safetensors")
    (llama / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    for name in ("pytorch_model.bin", "consolidated.safetensors", "model.fp16.safetensors"):
        (llama / name).write_bytes(b"x")
    assert_equal(port.load(llama), port.load(PARITY / "llama_plain"))


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_truncated_file_is_refused(llama: Path, keep: int):
    file = llama / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: not a complete safetensors file" in message(llama)


def test_a_file_that_is_no_safetensors_is_refused(llama: Path):
    (llama / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(1000))
    assert "not a complete safetensors file" in message(llama)


def test_an_index_has_to_agree_with_its_files(llama: Path):
    index = llama / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "model.safetensors"}}))
    assert "files do not have: a.weight" in message(llama)
    index.write_text(json.dumps({"weight_map": {"a.weight": "absent.safetensors"}}))
    assert "absent.safetensors" in message(llama)
    index.write_text(json.dumps({"weight_map": {"a.weight": "other/model.safetensors"}}))
    assert "weight_map" in message(llama)
    index.write_text(json.dumps({"weight_map": ["a.weight"]}))
    assert "weight_map" in message(llama)
    index.write_text("{")
    assert "cannot be read as JSON" in message(llama)


def test_a_directory_without_weights_or_with_pickles_only_says_so(llama: Path):
    (llama / "model.safetensors").unlink()
    assert "has neither model.safetensors nor its index" in message(llama)
    (llama / "pytorch_model.bin").write_bytes(b"pickle")
    assert "pickled weights" in message(llama)


# Parts


def test_tensors_longer_than_one_piece_are_read_completely(llama: Path, monkeypatch: pytest.MonkeyPatch):
    expected = port.load(llama)
    monkeypatch.setattr(tensors, "_PIECE", 7)
    assert_equal(port.load(llama), expected)


@pytest.mark.parametrize(
    "bounds",
    [((0, 40), (0, 32)), ((8, 16), (0, 32)), ((0, 40), (4, 12)), ((39, 40), (31, 32)), ((3, 9), (5, 31))],
)
def test_only_the_requested_part_of_a_tensor_is_read(llama: Path, monkeypatch: pytest.MonkeyPatch, bounds):
    expected = load_file(llama / "model.safetensors")[UP][tuple(slice(*cut) for cut in bounds)]
    read, fromfile = [], np.fromfile
    monkeypatch.setattr(tensors, "_PIECE", 7)
    monkeypatch.setattr(np, "fromfile", lambda *args: read.append(args[2]) or fromfile(*args))
    out = np.empty(expected.shape, np.float32)
    tensors.open_tensors(llama)[UP].read_into(out, bounds)
    np.testing.assert_array_equal(out, expected.astype(np.float32))
    assert sum(read) == expected.size


# Finite values


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_value_that_is_not_finite_names_its_tensor(llama: Path, value: float, stored: type, wanted: str):
    weights = {name: x.astype(stored) for name, x in load_file(llama / "model.safetensors").items()}
    weights[UP][-1, -1] = value
    save_file(weights, llama / "model.safetensors")
    assert message(llama, dtype=wanted) == (
        f"{llama / 'model.safetensors'}: {UP} has values that are not finite (NaN or infinity); "
        "save or download it again"
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_the_largest_and_smallest_values_are_finite(dtype):
    limits = ml_dtypes.finfo(dtype)
    values = np.array([limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 0, -0.0, 1], dtype)
    many = np.resize(values, 100_001)
    assert tensors._finite(many)
    for bad in (np.nan, np.inf, -np.inf):
        for place in (0, 65_535, 65_536, 100_000):
            spoilt = many.copy()
            spoilt[place] = bad
            assert not tensors._finite(spoilt)


def test_a_value_that_overflows_is_refused(llama: Path):
    weights = load_file(llama / "model.safetensors")
    weights[UP][3, 5] = np.finfo(np.float32).max
    save_file(weights, llama / "model.safetensors")
    assert port.load(llama, dtype="float32").layers.up.weight[1, 3, 5] == np.finfo(np.float32).max
    assert message(llama, dtype="bfloat16") == (
        f"{llama / 'model.safetensors'}: {UP} has values beyond the range of bfloat16; choose dtype float32"
    )


def test_both_copies_of_a_tied_head_may_have_nan(tmp_path: Path):
    directory = Path(shutil.copytree(PARITY / "llama_grouped_tied", tmp_path / "tied"))
    weights = load_file(directory / "model.safetensors")
    weights["model.embed_tokens.weight"][0, 0] = np.nan
    save_file(
        weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}, directory / "model.safetensors"
    )
    assert "model.embed_tokens.weight has values that are not finite" in message(directory)
