"""Every private or experimental name of JAX that jaxcram uses.

`NAMES` lists them; a test reports those that a new version of JAX no longer has.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from jax._src import clusters, distributed
from jax.experimental import multihost_utils

_SPLASH = "jax.experimental.pallas.ops.tpu.splash_attention"
_CLIENT = "jax._src.lib._jax.DistributedRuntimeClient"
_CUDNN = "jax._src.cudnn.fused_attention_stablehlo"

NAMES = (
    "jax._src.clusters.ClusterEnv._cluster_types",
    *(f"jax._src.clusters.ClusterEnv.{name}" for name in ("get_process_count", "get_process_id")),
    *(f"jax._src.clusters.ClusterEnv.{name}" for name in ("is_env_present", "name")),
    "jax._src.distributed.global_state.client",
    *(f"jax._src.distributed.global_state.{name}" for name in ("num_processes", "process_id")),
    "jax._src.distributed.global_state.coordinator_address",
    *(f"{_CLIENT}.{name}" for name in ("blocking_key_value_get", "key_value_dir_get", "key_value_set")),
    *(f"{_CUDNN}.{name}" for name in ("check_compute_capability", "check_cudnn_version")),
    f"{_CUDNN}.is_cuda_compute_capability_equal",
    "jax.experimental.multihost_utils.reached_preemption_sync_point",
    *(f"{_SPLASH}.splash_attention_kernel.{name}" for name in ("BlockSizes", "make_splash_mha")),
    *(f"{_SPLASH}.splash_attention_mask.{name}" for name in ("CausalMask", "MultiHeadMask")),
)

reached_preemption_sync_point = multihost_utils.reached_preemption_sync_point

_CLUSTERS = "ompi", "slurm", "gketpu", "gcetpu"  # JAX's names; Kubernetes without TPUs uses the flags


def process_id() -> int:
    """The rank of this process, without starting JAX's devices."""
    return distributed.global_state.process_id


def num_processes() -> int:
    """The number of processes, without starting JAX's devices."""
    return distributed.global_state.num_processes


def coordination_client() -> Any:
    """The client of the coordination service, a key-value store that all processes share."""
    return distributed.global_state.client


def coordinator_address() -> str:
    """host:port of the coordination service."""
    return str(distributed.global_state.coordinator_address)


def cluster() -> tuple[str, int, int] | None:
    """(JAX's name of the launcher, number of processes, rank of this one); None if JAX finds none."""
    for kind in clusters.ClusterEnv._cluster_types:
        if kind.name in _CLUSTERS and kind.is_env_present():
            try:
                return kind.name, kind.get_process_count(), kind.get_process_id()
            except RuntimeError:
                return None  # JAX knows the launcher but lacks the package it needs to find the others
    return None


def splash_attention() -> tuple[ModuleType, ModuleType]:
    """The modules of the splash attention kernel for TPUs and of its masks."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as mask

    return kernel, mask


def cudnn_attention() -> ModuleType:
    """The module that lowers `jax.nn.dot_product_attention` to cuDNN; it checks the device's requirements."""
    from jax._src.cudnn import fused_attention_stablehlo

    return fused_attention_stablehlo
