"""The device mesh: lanes are sharded over some of its axes, the model's weights over the others.

    lanes  lanes are sharded, weights replicated
    model  weights are sharded, and so are the matrix products with them (tensor parallelism)
    fsdp   lanes are sharded; weights are stored sharded, and gathered layer by layer where they are used

A device group is the devices at one index of the `lanes` axis. Lanes are independent of each other, so each
group runs its own passes, and the loop contains no collective over `lanes`. Groups of one process do not
even wait for each other (`apart`).
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxcram.devices.packed import Packed
from jaxcram.errors import UserError

LANES, FSDP, MODEL = "lanes", "fsdp", "model"
_AXES = LANES, FSDP, MODEL  # the last axes vary fastest, so that devices that share weights are neighbours

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """Number of devices along each axis; -1 for `lanes` means all that remain."""

    lanes: int = -1
    fsdp: int = 1
    model: int = 1

    @classmethod
    def parse(cls, text: str) -> MeshShape:
        """Parses `lanes:-1,model:1`; an omitted axis keeps its default.

        Raises:
            UserError: the syntax or a size is wrong, or weights would be sharded over both model and fsdp.
        """
        sizes = {}
        for part in filter(None, text.split(",")):
            name, _, size = part.partition(":")
            if name not in _AXES or name in sizes or not re.fullmatch(r"-?[0-9]{1,9}", size):
                raise UserError(f"mesh {text!r}: write it as lanes:-1,model:1 or lanes:-1,fsdp:1")
            sizes[name] = int(size)
        shape = cls(**sizes)
        if shape.model < 1 or shape.fsdp < 1 or shape.lanes == 0 or shape.lanes < -1:
            raise UserError(f"mesh {text!r}: sizes are positive; lanes may be -1, for all remaining devices")
        if shape.model > 1 and shape.fsdp > 1:
            raise UserError(f"mesh {text!r}: weights are sharded over model or over fsdp; leave one at 1")
        return shape

    def __str__(self) -> str:
        return ",".join(f"{name}:{getattr(self, name)}" for name in _AXES)

    def make(self) -> Mesh:
        """The mesh over the devices of all processes.

        Raises:
            UserError: there are too few devices, or their number is not divisible.
        """
        devices, group = jax.devices(), self.fsdp * self.model
        lanes = len(devices) // group if self.lanes == -1 else self.lanes
        used = lanes * group
        if used < 1 or used > len(devices) or (self.lanes == -1 and len(devices) % group):
            raise UserError(
                f"mesh {self} does not fit {len(devices)} devices: their number must be a multiple of "
                "model and of fsdp, and at least the product of all"
            )
        if used < len(devices) and jax.process_count() > 1:
            raise UserError(f"mesh {self} would leave devices of a process idle: use all {len(devices)}")
        return _mesh((lanes, self.fsdp, self.model), devices[:used])


def _mesh(sizes: tuple[int, ...], devices: list[Any]) -> Mesh:
    return jax.make_mesh(sizes, _AXES, axis_types=(AxisType.Auto,) * len(_AXES), devices=devices)


def use_cores() -> None:
    """Make every CPU core a device, unless JAX has started or the number of devices is already set.

    A second core speeds up a pass of a small model only little, but it can run a pass of its own. The number
    of devices is the most passes that run at once; see `apart` for where they run.
    """
    config: Any = jax.config  # its options are not typed
    if config.jax_num_cpu_devices != -1 or "xla_force_host_platform_device_count" in os.environ.get(
        "XLA_FLAGS", ""
    ):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        return  # JAX has started, so its devices are fixed


def cpu_model() -> str:
    """The model name of the CPU, which JAX does not report; "" if it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def use_memory() -> None:
    """Let JAX allocate 92% of a GPU's memory instead of 75%, unless the user has chosen a fraction.

    Call this before JAX starts.
    """
    chosen = {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"}
    if not chosen & os.environ.keys():
        os.environ["XLA_CLIENT_MEM_FRACTION"] = "0.92"


def of(tree: Any) -> Mesh:
    """The mesh of a pytree's arrays; if they are on a single device, a mesh of that device."""
    sharding = jax.tree.leaves(tree)[0].sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return sharding.mesh
    return _mesh((1, 1, 1), list(sharding.device_set))


def places(mesh: Mesh | AbstractMesh) -> int:
    """The number of shards into which the lanes of a pass are split."""
    return mesh.shape[LANES] * mesh.shape[FSDP]


def shares_cores(mesh: Mesh) -> bool:
    """Whether the devices of a mesh are the same CPU cores: one process's, each with all weights."""
    return mesh.devices.flat[0].platform == "cpu" and not mesh.is_multi_process and not exchanges(mesh)


def apart(tree: T, at_once: int = 1) -> list[T]:
    """The arrays of a pytree once per device group of this process, on the group's own mesh; without copies.

    There is one group only if the weights are sharded over devices of several processes, and on TPU, where
    each group would compile every program again (on GPU the compilation cache serves all but the first).

    On CPU all devices are the same cores, so `at_once` groups share device 0 and programs compile once. With
    several processes, whose results are concatenated on the mesh, each group keeps its own devices.
    """
    whole = of(tree)
    if whole.devices.flat[0].platform == "tpu" or (whole.is_multi_process and exchanges(whole)):
        return [tree]

    here = jax.process_index()
    own = [devices for devices in whole.devices if devices.flat[0].process_index == here]
    if shares_cores(whole):
        own = own[:1] * at_once
    return [local(tree, _mesh((1, *devices.shape), list(devices.flat))) for devices in own]


def local(tree: T, part: Mesh) -> T:
    """The arrays of a pytree on a part of their mesh, without copies.

    Args:
        tree: arrays that are replicated along every axis of which `part` has only some devices.
        part: a mesh of some of their devices, all of this process.
    """

    def there(x: jax.Array) -> jax.Array:
        spec = x.sharding.spec if isinstance(x.sharding, NamedSharding) else PartitionSpec()
        pieces = {piece.device: piece.data for piece in x.addressable_shards}
        own = [pieces[device] for device in part.devices.flat]
        return jax.make_array_from_single_device_arrays(x.shape, NamedSharding(part, spec), own)

    return jax.tree.map(there, tree)


def together(pieces: list[T], mesh: Mesh) -> T:
    """Concatenates arrays [1, ..] of device groups into arrays [R, ..] sharded over `lanes`, without copies.

    Args:
        pieces: one pytree for each device group of this process.
        mesh: all R groups, of one device each.
    """
    sharding = NamedSharding(mesh, PartitionSpec(LANES))

    def whole(*own: jax.Array) -> jax.Array:
        here = [piece.addressable_data(0) for piece in own]
        return jax.make_array_from_single_device_arrays((places(mesh), *own[0].shape[1:]), sharding, here)

    return jax.tree.map(whole, *pieces)


def exchanges(mesh: Mesh | AbstractMesh) -> bool:
    """Whether a pass contains collectives, so that all devices must run the same number of passes."""
    return math.prod(mesh.shape.values()) > mesh.shape[LANES]


def replicated(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a pytree, replicated on every device; each process must pass the same values."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def replicate(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """As `replicated`, for values inside `jax.jit`."""
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def spread(function: Callable[..., Any], mesh: Mesh | AbstractMesh) -> Callable[..., Packed]:
    """`function(model, *per_lane)` on S lanes, each device group computing its own shard of them.

    Args:
        function: receives the model and, of every array in `per_lane`, the group's rows. The first axis of
            its results is the lane axis, or another one of equal size in every group. XLA partitions its
            work over the other axes of the mesh.
        mesh: S must be a multiple of its `places`.

    Returns:
        A function of the unsharded arrays, to be called inside `jax.jit`. Its results are replicated, and
        packed so that there is one all-gather per dtype.
    """

    def share(model: Any, *per_lane: Any) -> Packed:
        if mesh.shape[FSDP] > 1:
            per_lane = jax.lax.with_sharding_constraint(per_lane, PartitionSpec(FSDP))
        return Packed.of(function(model, *per_lane))

    def whole(model: Any, *per_lane: Any) -> Packed:
        packed = jax.shard_map(
            share,
            mesh=mesh,
            in_specs=(PartitionSpec(), *(PartitionSpec(LANES) for _ in per_lane)),
            out_specs=PartitionSpec(LANES),
            # Axes of size 1 too: over them XLA has nothing to partition, so `on_each_device` can ignore them.
            axis_names={LANES, *(axis for axis, size in mesh.shape.items() if size == 1)},
            # The replication check rejects loops whose number of iterations differs between devices.
            check_vma=False,
        )(model, *replicate(per_lane, mesh))
        return replicate(packed, mesh)

    return whole


def on_each_device(
    kernel: Callable[..., jax.Array],
    query_BxTxHxC: jax.Array,
    key_BxSxGxC: jax.Array,
    value_BxSxGxC: jax.Array,
) -> jax.Array:
    """Runs `kernel(query, key, value)`, which returns as many heads as queries have, on each device's shard.

    Lanes are sharded over `fsdp` and heads over `model`. XLA cannot partition a kernel, so every axis of the
    mesh, even one of size 1, must be made manual.
    """
    here = jax.sharding.get_abstract_mesh()
    if not here.auto_axes:
        return kernel(query_BxTxHxC, key_BxSxGxC, value_BxSxGxC)
    num_heads, num_kv_heads = query_BxTxHxC.shape[2], key_BxSxGxC.shape[2]
    if num_kv_heads % here.shape.get(MODEL, 1):
        # Key heads that do not divide over the devices are replicated; repeat them to one per query head.
        key_BxSxGxC, value_BxSxGxC = (
            jnp.repeat(x, num_heads // num_kv_heads, axis=2) for x in (key_BxSxGxC, value_BxSxGxC)
        )
    lanes = tuple(axis for axis in here.auto_axes if axis != MODEL)
    spec = PartitionSpec(lanes, None, MODEL if MODEL in here.auto_axes else None)
    apart = jax.shard_map(
        kernel, in_specs=(spec,) * 3, out_specs=spec, axis_names=set(here.auto_axes), check_vma=False
    )
    return apart(query_BxTxHxC, key_BxSxGxC, value_BxSxGxC)


def gathered(weights: T) -> T:
    """Gathers weights that are sharded over `fsdp` where they are used; call it for one layer at a time.

    Without this constraint XLA might partition the matrix products instead, as it does over `model`.
    """
    if jax.sharding.get_abstract_mesh().shape.get(FSDP, 1) == 1:
        return weights
    return jax.lax.with_sharding_constraint(weights, PartitionSpec())
