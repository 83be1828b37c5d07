"""The trained parameters of a lane, and how the memory embeddings follow from them.

Parameters are any pytree whose leaves have a leading lane axis. The pass differentiates through `memory`, so
a new parametrisation (for instance a low-dimensional one, e = W z + b) only needs a new class here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import numpy as np

Params = Any  # a pytree of fp32 arrays, every leaf with a leading lane axis


class Parametrization(Protocol):
    """A map from parameters to memory embeddings; hashable, as a static argument of compiled passes."""

    def init(self, start_NxKxD: np.ndarray) -> Params:
        """The parameters of N lanes whose initial memory is `start_NxKxD`, fp32."""

    def memory(self, params: Params) -> jax.Array:
        """The memory embeddings [B, K, D] of B lanes; differentiable in `params`."""


@dataclasses.dataclass(frozen=True)
class Direct:
    """The memory embeddings themselves are the parameters, as in both papers."""

    def init(self, start_NxKxD: np.ndarray) -> Params:
        """The initial embeddings."""
        return start_NxKxD

    def memory(self, params: Params) -> jax.Array:
        """The parameters themselves."""
        return params
