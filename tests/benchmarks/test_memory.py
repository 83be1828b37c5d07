"""The memory benchmark: the search for the most lanes, and what it reads off a compiled pass."""

import json

import jax
import jax.numpy as jnp
import memory
import pytest
import shapes

from jaxcram.cram import pass_bytes
from jaxcram.errors import UserError
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig

COMMAND = memory.Command(shape="tiny-llama", tokens=20, lanes=(2, 4))


def test_the_shapes_are_the_published_models():
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(shapes.abstract(name, jnp.bfloat16)))
        for name in shapes.SHAPES
        if not name.startswith("tiny")
    }
    # As counted on the published checkpoints, each parameter once.
    assert sizes == {
        "smollm2-135m": 134_515_008,
        "smollm2-1.7b": 1_711_376_384,
        "pythia-1.4b": 1_414_647_808,
        "llama3.1-8b": 8_030_261_248,
    }
    assert isinstance(shapes.config("llama3.1-8b"), LlamaConfig)
    assert isinstance(shapes.config("pythia-1.4b"), NeoXConfig)


@pytest.mark.parametrize("shape", ["tiny-llama", "tiny-neox"])
def test_random_weights_have_the_shape_asked_for(shape):
    model, wanted = shapes.random_decoder(shape, jnp.bfloat16), shapes.abstract(shape, jnp.bfloat16)
    same = zip(jax.tree.leaves(model), jax.tree.leaves(wanted), strict=True)
    assert all((one.shape, one.dtype) == (other.shape, other.dtype) for one, other in same)
    out_LxDxN = model.layers.out.weight[...].astype(jnp.float32)
    assert out_LxDxN.std() == pytest.approx(out_LxDxN.shape[-1] ** -0.5, rel=0.05)
    assert (out_LxDxN[0] != out_LxDxN[1]).mean() > 0.9
    assert (model.final_norm.weight[...] == 1).all()


@pytest.mark.parametrize("capacity", [99, 100, 131, 132, 133, 900])
def test_most_lanes_is_the_largest_that_fits(capacity):
    def peak(count):  # bent, as a pass is: the head needs more than few lanes do
        return 100 + max(15, 8 * count)

    expected = max([n for n in range(200) if n and peak(n) <= capacity], default=0)
    assert memory.most_lanes(peak, capacity, 3, 9) == expected


def test_the_gpu_path_stores_what_its_attention_kernel_gives_back():
    target = memory.Target(COMMAND)
    count, tokens, config = 4, 20, target.model.config
    plain = pass_bytes.count(target.model, target.bucket(count), 1, remat=False)
    heads = config.num_layers * count * tokens * config.num_heads
    output_and_log_sum = heads * (2 * config.head_size + 4)
    assert target.account(count, False).stored - plain.stored == output_and_log_sum


def test_records_of_one_compiled_pass():
    record = memory.pass_record(memory.Target(COMMAND), 2, remat=True)
    assert list(record) == [
        *("measurement", "lanes", "remat", "attention", "argument_bytes", "temp_bytes", "output_bytes"),
        *("workspace_bytes", "peak_bytes", "compile_s", "weights_gb", "stored_gb", "working_gb"),
        *("compiled_gb", "account_gb"),
    ]
    parts = ("argument_bytes", "temp_bytes", "output_bytes", "workspace_bytes")
    assert record["peak_bytes"] == sum(record[part] for part in parts) == 1e9 * record["compiled_gb"]
    assert (record["attention"], record["workspace_bytes"]) == ("plain", 0)


def test_the_program_writes_one_line_a_measurement(monkeypatch, tmp_path, capsys):
    """On a stand-in for the compiler: 10 GB, and 2 (kept) or 1 (recomputed) for each lane."""

    def compiled(self, count, remat):
        return {
            "attention": "plain",
            "peak_bytes": (10 + count * (1 if remat else 2)) * 10**9,
            "compile_s": 0.0,
        }

    monkeypatch.setattr(memory.Target, "_compiled", compiled)
    file = tmp_path / "lines.jsonl"
    memory.main(
        memory.Command(shape="tiny-llama", tokens=20, lanes=(2, 4), device_gb=(10, 40), json=str(file))
    )
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    kinds = [(line["measurement"], line["remat"]) for line in lines]
    assert kinds == [
        (kind, remat)
        for kind, n in [("pass", 2), ("fit", 1), ("lanes", 2)]
        for remat in (False, True)
        for _ in range(n)
    ]
    assert [line["per_lane_gb"] for line in lines[4:6]] == pytest.approx([2, 1])
    assert [line["lanes"] for line in lines[6:]] == [0, 13, 0, 26]
    assert {line["benchmark"] for line in lines} == {"memory"}
    assert "lanes in 0.9 of a device's memory" in capsys.readouterr().out


def test_mistakes_are_named(monkeypatch):
    monkeypatch.setattr(memory, "NEEDED", {"tpu": ("no_such_module", "libtpu")})
    with pytest.raises(UserError, match="--target=tpu: its compiler is not installed; install libtpu"):
        memory.Target(memory.Command(target="tpu"))
    with pytest.raises(UserError, match="shape 'gpt5' is unknown"):
        shapes.config("gpt5")
    with pytest.raises(UserError, match="--target=npu: choose one of cpu, cuda, tpu"):
        memory.Command(target="npu")
