"""Devices as a mesh: lanes are spread over some of its axes, the weights of the model over the others.

    lanes  lanes are spread over it, weights are whole along it
    model  weights are cut over it, and so are the products with them (tensor parallelism)
    fsdp   lanes are spread over it; weights are cut over it where they lie, and whole, layer by layer, where
           they are used

Lanes exchange nothing, so each place on the `lanes` axis runs its own passes and no collective stands
inside the loop. Devices of one process that share nothing do not even wait for each other (`apart`).
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
_AXES = LANES, FSDP, MODEL  # the last ones vary fastest: devices that share weights are neighbours

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; -1 for `lanes` takes all that the others leave."""

    lanes: int = -1
    fsdp: int = 1
    model: int = 1

    @classmethod
    def parse(cls, text: str) -> MeshShape:
        """Reads `lanes:-1,model:1`; an axis that is left out keeps its default.

        Raises:
            UserError: it cannot be read, a size makes no sense, or weights are cut in both ways.
        """
        sizes = {}
        for part in filter(None, text.split(",")):
            name, _, size = part.partition(":")
            if name not in _AXES or name in sizes or not re.fullmatch(r"-?[0-9]{1,9}", size):
                raise UserError(f"mesh {text!r}: write it as lanes:-1,model:1 or lanes:-1,fsdp:1")
            sizes[name] = int(size)
        shape = cls(**sizes)
        if shape.model < 1 or shape.fsdp < 1 or shape.lanes == 0 or shape.lanes < -1:
            raise UserError(f"mesh {text!r}: sizes are positive; lanes may be -1, for all devices there are")
        if shape.model > 1 and shape.fsdp > 1:
            raise UserError(f"mesh {text!r}: weights are cut over model or over fsdp; leave one at 1")
        return shape

    def __str__(self) -> str:
        return ",".join(f"{name}:{getattr(self, name)}" for name in _AXES)

    def make(self) -> Mesh:
        """The mesh over the devices of all processes.

        Raises:
            UserError: there are too few devices, or they do not divide.
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
            raise UserError(f"mesh {self} leaves devices of some process idle: use all {len(devices)}")
        return _mesh((lanes, self.fsdp, self.model), devices[:used])


def _mesh(sizes: tuple[int, ...], devices: list[Any]) -> Mesh:
    return jax.make_mesh(sizes, _AXES, axis_types=(AxisType.Auto,) * len(_AXES), devices=devices)


def use_cores() -> None:
    """Make every CPU core a device, unless JAX has started or somebody has set their number.

    The second core adds little to a pass of a small model, but it can run passes of its own. The number of
    devices is that of the passes at once; see `apart` for where they run.
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
        return  # JAX has started: it keeps the devices it has


def cpu_model() -> str:
    """What the CPU is called, which JAX does not tell; "" where nobody does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def use_memory() -> None:
    """Let JAX take nearly all of a GPU's memory instead of three quarters, where nobody has said how much.

    Call it before JAX starts.
    """
    chosen = {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"}
    if not chosen & os.environ.keys():
        os.environ["XLA_CLIENT_MEM_FRACTION"] = "0.92"


def of(tree: Any) -> Mesh:
    """The mesh on which the arrays of a pytree lie; that of their one device where they lie on no mesh."""
    sharding = jax.tree.leaves(tree)[0].sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return sharding.mesh
    return _mesh((1, 1, 1), list(sharding.device_set))


def places(mesh: Mesh | AbstractMesh) -> int:
    """How many shares the lanes of a pass are dealt into."""
    return mesh.shape[LANES] * mesh.shape[FSDP]


def apart(tree: T) -> list[T]:
    """Each place on the `lanes` axis by itself: the arrays of a pytree as its devices have them, not copied.

    Of several processes each gets its own places. All stay together where the weights are cut over devices
    of several processes, and on TPU, where a program would be compiled for every chip anew. (On GPU the later
    ones come from the cache.)

    On CPU, where the devices are the same cores, each place is the first one over again, so that a program is
    compiled once. There is one place more than devices, to work wherever the others wait for the host. Those
    of several processes, whose results lie side by side, keep their own devices.
    """
    whole = of(tree)
    if whole.devices.flat[0].platform == "tpu" or (whole.is_multi_process and exchanges(whole)):
        return [tree]

    here = jax.process_index()
    own = [devices for devices in whole.devices if devices.flat[0].process_index == here]
    shared = whole.devices.flat[0].platform == "cpu" and not whole.is_multi_process and not exchanges(whole)
    if shared and len(own) > 1:
        own = own[:1] * (len(own) + 1)
    return [local(tree, _mesh((1, *devices.shape), list(devices.flat))) for devices in own]


def local(tree: T, part: Mesh) -> T:
    """The arrays of a pytree as the devices of a part of their mesh have them, not copied.

    Args:
        tree: arrays that are whole along every axis that `part` is cut from.
        part: devices of this process.
    """

    def there(x: jax.Array) -> jax.Array:
        spec = x.sharding.spec if isinstance(x.sharding, NamedSharding) else PartitionSpec()
        pieces = {piece.device: piece.data for piece in x.addressable_shards}
        own = [pieces[device] for device in part.devices.flat]
        return jax.make_array_from_single_device_arrays(x.shape, NamedSharding(part, spec), own)

    return jax.tree.map(there, tree)


def together(pieces: list[T], mesh: Mesh) -> T:
    """What places on the `lanes` axis have, [1, ..] each, side by side on the mesh, [R, ..]; not copied.

    Args:
        pieces: of this process's places.
        mesh: of one device a place.
    """
    sharding = NamedSharding(mesh, PartitionSpec(LANES))

    def whole(*own: jax.Array) -> jax.Array:
        here = [piece.addressable_data(0) for piece in own]
        return jax.make_array_from_single_device_arrays((places(mesh), *own[0].shape[1:]), sharding, here)

    return jax.tree.map(whole, *pieces)


def exchanges(mesh: Mesh | AbstractMesh) -> bool:
    """Whether devices exchange something in every pass, so that all of them must run it."""
    return math.prod(mesh.shape.values()) > mesh.shape[LANES]


def replicated(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a pytree whole on every device; each process must hand in the same values."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def replicate(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """As `replicated`, of values inside `jax.jit`."""
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def spread(function: Callable[..., Any], mesh: Mesh | AbstractMesh) -> Callable[..., Packed]:
    """`function(model, *per_lane)` for S lanes in all, each place of the mesh doing its share.

    Args:
        function: sees the model, and of every array in `per_lane` the rows of the lanes of one place on the
            `lanes` axis; the first axis of its results is that of the lanes, or has as many entries for
            every such place. XLA spreads its work over the other axes.
        mesh: S must be a multiple of its `places`.

    Returns:
        The function of whole arrays, to be called inside `jax.jit`; its results are packed, so that devices
        meet once for each dtype, and whole on every device.
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
            # Those of one device too: where XLA has nothing to cut, it need not be kept from cutting kernels.
            axis_names={LANES, *(axis for axis, size in mesh.shape.items() if size == 1)},
            # The devices run different numbers of passes, which the check of replication does not know.
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
    """`kernel(query, key, value)`, which returns as many heads as queries have, for each device's own share.

    Lanes lie over `fsdp` and heads over `model`. XLA cuts no kernel by itself: it must not see any axis of
    the mesh, even one of size 1.
    """
    here = jax.sharding.get_abstract_mesh()
    if not here.auto_axes:
        return kernel(query_BxTxHxC, key_BxSxGxC, value_BxSxGxC)
    num_heads, num_kv_heads = query_BxTxHxC.shape[2], key_BxSxGxC.shape[2]
    if num_kv_heads % here.shape.get(MODEL, 1):
        # Fewer key heads than devices: they are whole on each, and every query head needs its own piece.
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
    """Weights whole where they are used, if they are cut over `fsdp`; for one layer at a time.

    Without this XLA might cut the products instead, as over `model`.
    """
    if jax.sharding.get_abstract_mesh().shape.get(FSDP, 1) == 1:
        return weights
    return jax.lax.with_sharding_constraint(weights, PartitionSpec())
