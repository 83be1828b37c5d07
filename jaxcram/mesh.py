"""Devices as a mesh of two axes: lanes are spread over one, the weights of the model over the other.

Lanes exchange nothing, so each place on the `lanes` axis runs its own passes and no collective stands
inside the loop. Whatever decides what runs next (the pool of lanes, the weights along `lanes`) is
replicated.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxcram.errors import UserError

LANES, MODEL = "lanes", "model"


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; -1 for `lanes` takes all that `model` leaves."""

    lanes: int = -1
    model: int = 1

    @classmethod
    def parse(cls, text: str) -> MeshShape:
        """Reads `lanes:-1,model:1`; an axis that is left out keeps its default."""
        sizes = {}
        for part in filter(None, text.split(",")):
            name, _, size = part.partition(":")
            if name not in (LANES, MODEL) or name in sizes or not size.lstrip("-").isdigit():
                raise UserError(f"mesh {text!r}: write it as lanes:-1,model:1")
            sizes[name] = int(size)
        shape = cls(**sizes)
        if shape.model < 1 or shape.lanes == 0 or shape.lanes < -1:
            raise UserError(f"mesh {text!r}: sizes are positive; lanes may be -1, for all devices there are")
        return shape

    def make(self) -> Mesh:
        """The mesh over the devices of all processes.

        Raises:
            UserError: there are too few devices, or they do not divide.
        """
        devices = jax.devices()
        lanes = len(devices) // self.model if self.lanes == -1 else self.lanes
        if lanes < 1 or lanes * self.model > len(devices) or (self.lanes == -1 and len(devices) % self.model):
            raise UserError(
                f"mesh lanes:{self.lanes},model:{self.model} does not fit {len(devices)} devices: "
                "their number must be a multiple of model, and at least lanes times model"
            )
        if lanes * self.model < len(devices) and jax.process_count() > 1:
            raise UserError(
                f"mesh lanes:{self.lanes},model:{self.model} leaves devices of some process idle: "
                f"use all {len(devices)}"
            )
        chosen = np.array(devices[: lanes * self.model]).reshape(lanes, self.model)
        return Mesh(chosen, (LANES, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def use_cores() -> None:
    """Make every CPU core a device of its own, unless JAX has started or somebody has set their number.

    The second core adds little to a pass of a small model, but a second device runs passes of its own.
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


def of(tree: Any) -> Mesh:
    """The mesh on which the arrays of a pytree lie; that of their one device where they lie on no mesh."""
    sharding = jax.tree.leaves(tree)[0].sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return sharding.mesh
    (device,) = sharding.device_set
    return Mesh(np.array([[device]]), (LANES, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a pytree whole on every device; each process must hand in the same values."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def spread(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function(model, *per_lane)` for S lanes in all, each place of the mesh doing its share.

    Args:
        function: sees the model, and of every array in `per_lane` the rows of its own lanes; the first axis
            of its results is that of the lanes, or has one entry a device.
        mesh: S must be a multiple of its `lanes` axis.

    Returns:
        The function of whole arrays, to be called inside `jax.jit`; its results are whole on every device.
    """

    def whole(model: Any, *per_lane: Any) -> Any:
        shares = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(PartitionSpec(), *(PartitionSpec(LANES) for _ in per_lane)),
            out_specs=PartitionSpec(LANES),
            axis_names={LANES},
            # The devices run different numbers of passes, which the check of replication does not know.
            check_vma=False,
        )(model, *per_lane)
        return jax.lax.with_sharding_constraint(shares, NamedSharding(mesh, PartitionSpec()))

    return whole
