"""Checkpoints: strict in both directions, read as they are, written as Hugging Face reads them."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.models.decoder import Decoder

ROOT = Path(__file__).parents[2]
PARITY = ROOT / "tests" / "fixtures" / "parity"
UP = "model.layers.1.mlp.up_proj.weight"
Edit = Callable[[dict[str, np.ndarray]], object]


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PARITY / "llama_plain", tmp_path / "llama"))


def edit(directory: Path, change: Edit) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def edit_config(directory: Path, **values: object) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def message(directory: Path | str, **kwargs: str) -> str:
    with pytest.raises(UserError) as caught:
        port.load(directory, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_equal(first: Decoder, second: Decoder) -> None:
    assert first.config == second.config
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_layers_are_stacked_in_order_under_their_names(llama: Path):
    tensors, decoder = load_file(llama / "model.safetensors"), port.load(llama)
    for layer in range(decoder.config.num_layers):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        np.testing.assert_array_equal(decoder.layers.up.weight[layer], tensors[name])
    np.testing.assert_array_equal(decoder.head.weight, tensors["lm_head.weight"])


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_every_stored_dtype_is_cast_to_the_wanted_one(llama: Path, stored: type, wanted: str):
    edit(llama, lambda tensors: tensors.update({name: t.astype(stored) for name, t in tensors.items()}))
    expected = load_file(llama / "model.safetensors")[UP].astype(wanted)
    decoder = port.load(llama, dtype=wanted)
    assert {leaf.dtype for leaf in jax.tree.leaves(decoder)} == {np.dtype(wanted)}
    np.testing.assert_array_equal(decoder.layers.up.weight[1], expected)


def test_the_default_dtype_depends_on_the_device(llama: Path, monkeypatch: pytest.MonkeyPatch):
    assert port.load(llama).dtype == np.float32
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert port.load(llama).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("case", ["llama_llama3_rope", "llama_biases", "neox_sequential", "neox_tied"])
def test_what_is_saved_loads_the_same(case: str, tmp_path: Path):
    decoder = port.load(PARITY / case, dtype="bfloat16")
    port.save(decoder, tmp_path / "new" / "directory")
    assert {t.dtype for t in load_file(tmp_path / "new/directory/model.safetensors").values()} == {
        decoder.dtype
    }
    assert_equal(port.load(tmp_path / "new" / "directory", dtype="bfloat16"), decoder)
    assert {file.name for file in (tmp_path / "new/directory").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_saved_files_have_the_permissions_of_the_umask(llama: Path, tmp_path: Path, umask: int):
    decoder, before = port.load(llama), os.umask(umask)
    try:
        port.save(decoder, tmp_path / "new")
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert modes == dict.fromkeys(("config.json", "model.safetensors"), 0o666 & ~umask)


@pytest.mark.parametrize(
    ("stored", "ids"), [(5, (5,)), ([2, 5], (2, 5)), ([], ()), (None, ()), ("absent", (1,))]
)
def test_end_tokens_come_from_generation_config_if_present(llama: Path, stored, ids):
    edit_config(llama, eos_token_id=1)
    (llama / "generation_config.json").write_text(
        json.dumps({} if stored is None else {"eos_token_id": stored, "do_sample": True})
    )
    if stored == "absent":
        (llama / "generation_config.json").unlink()
    assert port.load(llama).config.eos_token_ids == ids


def test_end_tokens_that_are_no_ids_name_their_file(llama: Path):
    file = llama / "generation_config.json"
    file.write_text('{"eos_token_id": "</s>"}')
    assert message(llama) == f"{file}: eos_token_id = '</s>' should be token ids"
    file.write_text("{")
    assert message(llama).startswith(f"{file}: cannot be read as JSON (")


@pytest.mark.parametrize("name", ["m", "a:b", "a b", "%41", os.fsdecode(b"caf\xe9")])
def test_a_model_path_may_be_relative_or_use_the_home_directory(
    llama: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (llama.parent / "models").mkdir()
    llama.rename(llama.parent / "models" / name)
    monkeypatch.chdir(llama.parent)
    monkeypatch.setenv("HOME", str(llama.parent))
    expected = os.path.join(llama.parent, "models", name)
    for spelling in (f"models/{name}", f"~/models/{name}", f"./models/../models/{name}", expected):
        assert port.load(spelling).config.vocab_size == 40
    port.save(port.load(f"models/{name}"), f"models/{name}/again")
    assert port.load(f"models/{name}/again").config == port.load(f"models/{name}").config


@pytest.mark.parametrize("uri", ["s3://bucket/m", "gs://bucket/m", "hf://owner/name"])
def test_a_uri_is_refused_with_a_remedy(uri: str):
    scheme = uri.split(":")[0].lower()
    assert (
        message(uri) == f"model={uri}: {scheme}:// is not supported; use a local disk, and give a path there"
    )


def test_missing_and_left_over_tensors_are_listed_together(llama: Path):
    def change(tensors):
        del tensors["model.norm.weight"], tensors[UP]
        tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros((2, 2), np.float32)
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.zeros(2, np.float32)

    edit(llama, change)
    text = message(llama)
    lacks, has = text.split("; it has")
    assert "model.norm.weight" in lacks
    assert UP in lacks
    assert "model.layers.2.mlp.up_proj.weight" in has
    assert "model.layers.0.self_attn.q_norm.weight" in has


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (np.zeros((32, 40), np.float32), [UP, "(32, 40)", "(40, 32)"]),
        (np.zeros((40, 32), np.float64), [UP, "dtype", "BF16"]),
        (np.zeros((40, 32), np.int8), [UP, "dtype"]),
    ],
)
def test_tensors_of_wrong_shape_or_dtype_are_named(llama: Path, tensor: np.ndarray, named: list[str]):
    edit(llama, lambda tensors: tensors.update({UP: tensor}))
    text = message(llama)
    assert [part for part in named if part not in text] == []


def test_buffers_that_are_no_parameters_are_ignored(tmp_path: Path):
    directory = Path(shutil.copytree(PARITY / "neox_parallel", tmp_path / "neox"))
    buffers = {
        "gpt_neox.layers.1.attention.bias": np.ones((1, 1, 4, 4), np.bool_),
        "gpt_neox.layers.0.attention.masked_bias": np.array(-1e9, np.float32),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": np.ones(1, np.float32),
    }
    edit(directory, lambda tensors: tensors.update(buffers))
    assert_equal(port.load(directory), port.load(PARITY / "neox_parallel"))


def test_both_names_of_the_neox_head_are_known(tmp_path: Path):
    directory = Path(shutil.copytree(PARITY / "neox_parallel", tmp_path / "neox"))
    edit(directory, lambda tensors: tensors.update({"lm_head.weight": tensors.pop("embed_out.weight")}))
    assert_equal(port.load(directory), port.load(PARITY / "neox_parallel"))


def test_a_tied_head_may_be_stored_twice_but_not_differ(tmp_path: Path):
    directory = Path(shutil.copytree(PARITY / "llama_grouped_tied", tmp_path / "tied"))
    embedding = load_file(directory / "model.safetensors")["model.embed_tokens.weight"]
    edit(directory, lambda tensors: tensors.update({"lm_head.weight": embedding}))
    assert_equal(port.load(directory), port.load(PARITY / "llama_grouped_tied"))
    edit(directory, lambda tensors: tensors.update({"lm_head.weight": embedding + 1}))
    assert "lm_head.weight" in message(directory)


def test_an_untied_model_needs_its_head(llama: Path):
    edit(llama, lambda tensors: tensors.pop("lm_head.weight"))
    assert "lacks 1 tensors: lm_head.weight" in message(llama)


@pytest.mark.parametrize("content", ["{", "[]", b"\xff\xfe", None])
def test_config_json_must_exist_and_be_an_object(llama: Path, content: str | bytes | None):
    file = llama / "config.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert str(file) in message(llama)


def test_an_unsupported_config_value_names_the_file(llama: Path):
    edit_config(llama, sliding_window=128)
    assert message(llama).startswith(f"{llama / 'config.json'}: ")
    assert "sliding_window = 128" in message(llama)


@pytest.mark.parametrize("layout", ["files", "transformers"])
def test_the_text_part_of_a_gemma_with_images(tmp_path: Path, layout: str):
    """Its config is nested, its tensors have a prefix, and those of the images are left alone."""
    text, directory = PARITY / "gemma_plain", tmp_path / "gemma"
    tensors = load_file(text / "model.safetensors")
    if layout == "files":
        tensors = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
        images = {"vision_tower.vision_model.post_layernorm.weight": np.ones(3, np.float32)}
    else:
        tensors = {
            name.replace("model.", "model.language_model."): tensor for name, tensor in tensors.items()
        }
        images = {"model.multi_modal_projector.mm_soft_emb_norm.weight": np.ones(3, np.float32)}
    directory.mkdir()
    save_file(tensors | images, directory / "model.safetensors")
    fields = {"model_type": "gemma3", "text_config": json.loads((text / "config.json").read_text())}
    (directory / "config.json").write_text(json.dumps(fields | {"vision_config": {"image_size": 8}}))
    assert_equal(port.load(directory), port.load(text))


def test_what_runs_record_of_a_config_is_as_json_reads_it_back():
    contents = port.contents(PARITY / "gemma_plain")
    assert contents["config"]["windows"] == [5, None]
    assert contents == json.loads(json.dumps(contents))


def test_an_unknown_dtype_is_refused(llama: Path):
    assert "'float64'" in message(llama, dtype="float64")


@pytest.mark.parametrize("name", ["no/such/directory", "/no/such", "nosuch", "", "a b/c"])
def test_an_invalid_name_is_refused_without_the_network(name: str):
    assert (
        message(name) == f"model {name!r} is neither a directory nor a Hub name (owner/name); check its path"
    )


def test_a_hub_name_is_downloaded_without_pickles(llama: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def download(name, allow_patterns, etag_timeout):
        asked.append((name, allow_patterns))
        return str(llama)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_equal(port.load("owner/model-1.4b"), port.load(llama))
    ((name, patterns),) = asked
    assert name == "owner/model-1.4b"
    assert {"config.json", "*.safetensors", "*.safetensors.index.json"} <= set(patterns)
    assert [pattern for pattern in patterns if "bin" in pattern or pattern == "*"] == []


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert message("owner/model").startswith(
        "model 'owner/model' is not a directory, and the Hub did not provide it: "
    )


def test_loading_imports_no_torch_and_no_transformers():
    code = (
        "import sys; from jaxcram.models import port; "
        f"port.load({str(PARITY / 'neox_parallel')!r}); "
        "print([name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures through Linux's /proc")
def test_loading_takes_little_more_memory_than_the_checkpoint():
    command = [sys.executable, ROOT / "tests" / "models" / "load_memory.py", "--megabytes=200"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output)
    assert result["checkpoint_bytes"] > 150e6
    # All of the weights are in memory in the end, so the bound below cannot be met by not loading them.
    assert 0.95 < result["ratio"] < 1.3
