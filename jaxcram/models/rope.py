"""Rotary frequencies (Su et al. 2021, RoFormer), and how they are scaled for longer contexts."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from jaxcram.models.fields import Fields


@dataclasses.dataclass(frozen=True)
class LinearScaling:
    """Parameters of the `linear` rope type: all positions are divided by `factor`."""

    rope_type: ClassVar[str] = "linear"

    factor: float

    @classmethod
    def from_fields(cls, rope: Fields) -> "LinearScaling":
        """Reads rotary settings; raises UserError."""
        rope.take("original_max_position_embeddings", int, None)
        return cls(factor=rope.take("factor", float))

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        """Frequencies divided by `factor`."""
        return (frequencies / np.float32(self.factor)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """Parameters of the `llama3` rope type, which slows low-frequency rotations for longer contexts."""

    rope_type: ClassVar[str] = "llama3"

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    @classmethod
    def from_fields(cls, rope: Fields) -> "Llama3Scaling":
        """Reads rotary settings; raises UserError."""
        scaling = cls(
            factor=rope.take("factor", float),
            low_freq_factor=rope.take("low_freq_factor", float),
            high_freq_factor=rope.take("high_freq_factor", float),
            original_max_position_embeddings=rope.take("original_max_position_embeddings", int),
        )
        if scaling.high_freq_factor <= scaling.low_freq_factor:
            reason = f"should be above low_freq_factor = {scaling.low_freq_factor}"
            raise rope.error("high_freq_factor", scaling.high_freq_factor, reason)
        return scaling

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        """Frequencies divided by `factor` below the low cut-off, kept above the high one, blended between."""
        turns = self.original_max_position_embeddings * frequencies / (2 * np.pi)
        blend = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = np.clip(blend, 0.0, 1.0)
        return ((1 - blend) * frequencies / self.factor + blend * frequencies).astype(np.float32)


Scaling = LinearScaling | Llama3Scaling
_SCALINGS: dict[str, type[Scaling]] = {kind.rope_type: kind for kind in (LinearScaling, Llama3Scaling)}


def read(rope: Fields, default_theta: float = 10_000.0) -> tuple[float, Scaling | None]:
    """The base of the frequencies, and their scaling, from rotary settings (`Fields.rope`).

    Raises:
        UserError: a rope type that is not supported, or a parameter that is missing, wrong or unknown.
    """
    rope.only("partial_rotary_factor", 1.0)
    theta = rope.take("rope_theta", float, default_theta)
    kind, scaling = rope.only("rope_type", "default", *_SCALINGS), None
    if kind == "default":
        rope.leave_unscaled()
    else:
        scaling = _SCALINGS[kind].from_fields(rope)
    rope.close()
    return theta, scaling


def written(scaling: Scaling | None) -> dict[str, Any] | None:
    """The field `rope_scaling` of config.json."""
    return None if scaling is None else {"rope_type": scaling.rope_type} | dataclasses.asdict(scaling)


def frequencies(theta: float, size: int, scaling: Scaling | None = None) -> np.ndarray:
    """Radians per position, fp32 [size / 2] (eq. 15), scaled if there is a scaling."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    plain = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    return plain if scaling is None else scaling(plain)
