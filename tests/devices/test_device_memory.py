from types import SimpleNamespace

import jax
import pytest
from jax.errors import JaxRuntimeError

from jaxcram.devices import device_memory


@pytest.mark.parametrize(("stats", "expected"), [(None, None), ({"bytes_limit": 123, "pool_bytes": 4}, 123)])
def test_the_bytes_there_are(monkeypatch, stats, expected):
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(memory_stats=lambda: stats)])
    assert device_memory.available() == expected


@pytest.mark.parametrize(
    ("message", "expected"), [("RESOURCE_EXHAUSTED: 3 GiB", True), ("INTERNAL: exhausted", False)]
)
def test_an_error_is_a_lack_of_memory_if_it_says_so(message, expected):
    assert device_memory.ran_out(JaxRuntimeError(message)) == expected
