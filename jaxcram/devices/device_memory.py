"""Memory of a device: how much there is, and whether it ran out."""

import jax
from jax.errors import JaxRuntimeError


def available() -> int | None:
    """Bytes that JAX may take on the first local device; None where it does not say, as on CPU."""
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("bytes_limit") if stats else None


def ran_out(error: JaxRuntimeError) -> bool:
    """Whether an error of the device is a lack of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)
