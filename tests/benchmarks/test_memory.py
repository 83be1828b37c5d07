"""The memory benchmark: the search for the most lanes, and what it reads off a compiled pass."""

import json
import re

import jax
import jax.numpy as jnp
import pytest

import memory
from common import shapes
from jaxcram.cram import lanes, pass_bytes
from jaxcram.cram.lanes import PassSettings
from jaxcram.errors import UserError

COMMAND = memory.Command(shape="tiny-llama", tokens=20, lanes=(2, 4))


@pytest.mark.parametrize("capacity", [99, 100, 131, 132, 133, 900])
def test_most_lanes_is_the_largest_that_fits(capacity):
    def peak(count):  # bent, as a pass is: the head needs more than few lanes do
        return 100 + max(15, 8 * count)

    expected = max([n for n in range(200) if n and peak(n) <= capacity], default=0)
    assert memory.most_lanes(peak, capacity, 3, 9) == expected


@pytest.mark.parametrize(
    ("per_lane", "tried"),
    [
        (8, [112, 113]),
        (5, [112, 113, 114, 116, 120, 128, 144, 176, 240, 208, 192, 184, 180, 182, 181]),
        (20, [112, 111, 109, 105, 97, 81, 49, 24, 36, 42, 45, 47, 46]),
    ],
)
def test_few_passes_are_compiled_to_find_the_most_lanes(per_lane, tried):
    """Also where the line through two small passes tells little about large ones."""
    compiled = []

    def peak(count):
        compiled.append(count)
        return 8 * count if count < 10 else per_lane * count

    assert memory.most_lanes(peak, 900, 3, 9) == 900 // per_lane
    assert compiled[3:] == tried


def test_the_gpu_path_stores_what_its_attention_kernel_gives_back():
    target = memory.Target(COMMAND)
    count, tokens, config = 4, 20, target.model.config
    plain = pass_bytes.count(target.model, target.bucket(count), 1, remat=False)
    heads = config.num_layers * count * tokens * config.num_heads
    output_and_log_sum = heads * (2 * config.head_size + 4)
    assert target.account(count, False).stored - plain.stored == output_and_log_sum


def test_a_pass_is_lowered_to_cudnns_attention_both_ways():
    """The path that only a GPU takes; an odd number of positions is made even for it."""
    model, settings = shapes.abstract("tiny-llama", jnp.bfloat16), PassSettings()

    def kernels(tokens):
        problem = lanes.Problem(jnp.ones((2, tokens), jnp.int32), jnp.full(2, tokens), jnp.full(2, 0.1))
        pool = jax.eval_shape(lambda: lanes.init_pool(problem, jnp.ones((2, 1, 64)), settings))
        step = jax.jit(lambda model, pool: lanes.one_pass(model, pool, tokens, settings))
        with memory.as_if_on_gpu():
            text = step.trace(model, pool).lower(lowering_platforms=("cuda",)).as_text()
        return set(re.findall(r"__cudnn\$\w+", text))

    assert kernels(32) == {"__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"}
    assert kernels(33) == kernels(32)


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
    with pytest.raises(UserError, match="--target=npu: choose one of cpu, cuda, tpu"):
        memory.Command(target="npu")
