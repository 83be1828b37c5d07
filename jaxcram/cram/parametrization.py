"""What a lane trains, and the memory embeddings that it makes of it.

Parameters are any pytree whose leaves have a leading lane axis. The pass differentiates through `memory`, so
a new parametrisation (low-dimensional, for instance: e = W z + b) is a class here and nothing else.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import numpy as np

Params = Any  # a pytree of fp32 arrays, every leaf with a leading lane axis


class Parametrization(Protocol):
    """From parameters to memory embeddings; hashable, since compiled passes depend on it."""

    def init(self, start_NxKxD: np.ndarray) -> Params:
        """The parameters of N lanes whose memory begins at `start_NxKxD`, fp32."""

    def memory(self, params: Params) -> jax.Array:
        """The memory embeddings [B, K, D] of B lanes; differentiable in `params`."""


@dataclasses.dataclass(frozen=True)
class Direct:
    """The memory embeddings themselves are trained, as published ([K], [P])."""

    def init(self, start_NxKxD: np.ndarray) -> Params:
        """The embeddings as they begin."""
        return start_NxKxD

    def memory(self, params: Params) -> jax.Array:
        """The parameters themselves."""
        return params
