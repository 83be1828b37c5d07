"""Shared fixtures: where the optional reference material lies, a quick run order, and quick compilation."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from jaxcram.cram import roofline
from jaxcram.cram.plan import PassTime

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell has it for what runs in its background, and no tested program could be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Programs compiled here stay out of the person's own cache; subprocesses share this one."""
    directory = str(tmp_path_factory.mktemp("xla"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = directory
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True)
def _known_pass_times(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes take what they did once on one machine, so that plans do not follow the load of this one."""
    if not _marked(request.node, "measured"):
        time = PassTime(fixed_s=2.4e-4, token_s=3.4e-5)
        monkeypatch.setattr(roofline, "guessed", lambda model: time)
        monkeypatch.setattr(roofline, "measured", lambda groups, mem_shape, bucket, passes: time(bucket))


@pytest.fixture
def own_devices() -> dict[str, str]:
    """The environment of a process that decides itself how many devices it makes of the CPU."""
    chosen = {"JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
    return {name: value for name, value in os.environ.items() if name not in chosen}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the reference folder ../shared is absent")
    return folder


# What a process may find in a notebook, on a cluster or in a container; none of it may enter a result.
ODD_ENVIRONMENT = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_DEBUG_NANS": "1",
    "JAX_DISABLE_JIT": "1",
    "MPLBACKEND": "module://no_such.backend",  # as inherited from a notebook's kernel
    "PYTHONIOENCODING": "ascii:strict",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "TERM": "dumb",
    "COLUMNS": "1",
}


@pytest.fixture
def odd_environment() -> dict[str, str]:
    """The environment of a process that is started somewhere odd."""
    return os.environ | ODD_ENVIRONMENT


# How people write the path of what they call `run`.
SPELLINGS = {
    "relative": "run",
    "upwards": "../here/run",
    "home": "~/run",
    "space": "my runs/run",
    "colon": "2026-11-26 09:15/run",
    "absolute": "{here}/run",
}


@pytest.fixture(params=SPELLINGS)
def spelt(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """`spelt("name")` is a path as people write it, from a working directory that is also HOME.

    `Path(spelt("name")).expanduser()` is what that names; its parent exists. A test that takes long asks for
    one way alone: `@pytest.mark.parametrize("spelt", ["colon"], indirect=True)`.
    """
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))

    def spell(name: str) -> str:
        written = SPELLINGS[request.param].format(here=here).removesuffix("run") + name
        Path(written).expanduser().parent.mkdir(parents=True, exist_ok=True)
        return written

    return spell


def _marked(item: pytest.Item, name: str) -> bool:
    return item.get_closest_marker(name) is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a broken build says so early; XLA changes its mind as seldom as possible."""
    items.sort(key=lambda item: (_marked(item, "slow"), _marked(item, "optimised")))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Has XLA take its time over programs, here and in subprocesses, only where a test is about these.

    Compiling is half of what tests do. A hook and no fixture, for it has to come before those of modules.
    """
    hasty = not _marked(item, "optimised")
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(hasty))
    if jax.config.read("jax_disable_most_optimizations") != hasty:
        jax.config.update("jax_disable_most_optimizations", hasty)
        jax.clear_caches()
