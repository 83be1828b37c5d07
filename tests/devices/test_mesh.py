"""Mesh shapes: parsing, and errors where they do not fit the available devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram.devices import mesh
from jaxcram.devices.mesh import MeshShape
from jaxcram.errors import UserError
from jaxcram.results.reading import load_rows, load_summary
from tests.cli.conftest import tiny_model  # noqa: F401


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", MeshShape(lanes=-1, fsdp=1, model=1)),
        ("model:4", MeshShape(lanes=-1, fsdp=1, model=4)),
        ("lanes:2,fsdp:3", MeshShape(lanes=2, fsdp=3, model=1)),
        ("model:2,lanes:-1", MeshShape(lanes=-1, fsdp=1, model=2)),
    ],
)
def test_omitted_axes_keep_their_defaults(text, shape):
    assert MeshShape.parse(text) == shape
    assert MeshShape.parse(str(shape)) == shape


@pytest.mark.parametrize(
    "text", ["lanes", "lanes:", "lanes:two", "lanes:--1", "lanes:1,lanes:2", "rows:1", "lanes=1", "lanes:1.5"]
)
def test_a_malformed_shape_names_the_syntax(text):
    with pytest.raises(UserError) as error:
        MeshShape.parse(text)
    assert str(error.value) == f"mesh {text!r}: write it as lanes:-1,model:1 or lanes:-1,fsdp:1"


def test_a_size_of_5000_digits_is_refused():
    with pytest.raises(UserError, match="mesh 'lanes:999"):
        MeshShape.parse("lanes:" + "9" * 5000)


@pytest.mark.parametrize("text", ["model:0", "model:-1", "fsdp:0", "lanes:0", "lanes:-2"])
def test_sizes_must_be_positive(text):
    with pytest.raises(UserError, match="sizes are positive"):
        MeshShape.parse(text)


def test_weights_are_sharded_over_one_axis_only():
    with pytest.raises(UserError, match="over model or over fsdp; leave one at 1"):
        MeshShape.parse("model:2,fsdp:2")


def test_a_mesh_larger_than_the_devices_is_refused():
    count = len(jax.devices())
    for shape in (MeshShape(model=count + 1), MeshShape(lanes=count + 1), MeshShape(lanes=count, fsdp=2)):
        with pytest.raises(UserError, match=f"mesh {shape} does not fit {count} devices"):
            shape.make()


def test_by_default_lanes_use_all_devices_without_collectives():
    made = MeshShape().make()
    assert mesh.places(made) == made.shape["lanes"] == len(jax.devices())
    assert not mesh.exchanges(made)


def test_the_mesh_of_arrays_is_found():
    made = MeshShape(lanes=1).make()
    assert mesh.of({"x": mesh.replicated(np.ones(3), made)}) == made
    plain = mesh.of([jnp.ones(3)])
    assert (plain.devices.size, mesh.places(plain)) == (1, 1)


@pytest.mark.slow
def test_a_run_from_the_command_line_uses_every_core_as_a_device(tiny_model, own_devices, tmp_path):  # noqa: F811
    """JAX counts its devices once: starting it before they are configured would leave cores idle."""
    code = "import sys; from jaxcram.cli.main import main; sys.exit(main())"
    flags = (f"--model={tiny_model}", f"--out={tmp_path / 'run'}", "--texts=stories:2", "--max_tokens=4")
    command = [sys.executable, "-c", code, "cram", *flags, "--max_steps=10"]
    subprocess.run(command, env=own_devices, capture_output=True, check=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert len(load_summary(tmp_path / "run")["devices"]) == cores
    assert load_rows(tmp_path / "run", ["mesh"])["mesh"][0].as_py() == f"lanes:{cores},fsdp:1,model:1"


def test_a_mesh_of_one_device_is_one_group_without_a_copy():
    made = MeshShape(lanes=1).make()
    tree = {"x": mesh.replicated(np.arange(3.0), made)}
    (part,) = mesh.apart(tree)
    assert mesh.of(part) == made
    assert part["x"].unsafe_buffer_pointer() == tree["x"].unsafe_buffer_pointer()
