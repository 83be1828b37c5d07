import os
import time

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxcram.devices.compilation import CompileTime, use_cache


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The configuration as a fresh process has it, with a cache of the test's own."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()  # else the first directory that this process used stays in force
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "jaxcram" / "xla"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def program(x):
    return jax.numpy.sin(x) @ x


def test_the_cache_is_on_and_a_second_compilation_comes_from_it(cache):
    use_cache()
    assert jax.config.jax_compilation_cache_dir == str(cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    hits = []
    listen = lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None  # noqa: E731
    jax.monitoring.register_event_listener(listen)
    x = jax.ShapeDtypeStruct((8, 8), jax.numpy.float32)
    try:
        jax.jit(program).lower(x).compile()
        assert any(file.name.startswith("jit_program") for file in cache.iterdir())
        jax.clear_caches()
        hits.clear()
        jax.jit(program).lower(x).compile()
        assert len(hits) == 1
    finally:
        jax.monitoring.unregister_event_listener(listen)


def test_compile_time_is_measured_while_the_context_is_open():
    with CompileTime() as clock:
        jax.jit(lambda x: program(x) + 1)(jax.numpy.eye(8))
        assert clock.spent_s > 0
        # JAX knows the time of a stored compilation in whole seconds, so a quick one counts as a loss.
        for seconds in (3.0, -0.2, 2.5):
            jax.monitoring.record_event_duration_secs(
                "/jax/compilation_cache/compile_time_saved_sec", seconds
            )
    assert clock.saved_s == 5.5
    after = clock.spent_s
    jax.jit(lambda x: program(x) + 2)(jax.numpy.eye(8))
    assert clock.spent_s == after, "a closed clock goes on"


def test_concurrent_compilations_count_once(monkeypatch):
    compiled = "/jax/core/compile/backend_compile_duration"
    clock = CompileTime()
    for now, seconds in ((10.0, 2.0), (11.0, 2.5), (11.5, 0.25), (20.0, 1.0), (21.0, -1.0)):
        monkeypatch.setattr(time, "perf_counter", lambda now=now: now)
        clock._listen(compiled, seconds)
    assert clock.spent_s == 3.0 + 0.25 + 1.0  # 8 to 11, the last quarter before 11.5, 19 to 20


def test_a_directory_that_is_already_set_is_kept(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    use_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_a_relative_cache_home_is_ignored(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    use_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "home" / ".cache" / "jaxcram" / "xla")


def test_without_a_home_directory_the_cache_is_off(cache, monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: path
    )  # as for a user whom the system does not know
    monkeypatch.chdir(tmp_path)
    use_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert caplog.messages == [
        "the compilation cache is off: ~/.cache/jaxcram/xla cannot be written "
        "(No such file or directory); set JAX_COMPILATION_CACHE_DIR=DIR to use another directory"
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kept", "why"), [("file", "Not a directory"), ("folder", "Permission denied")])
def test_an_unwritable_directory_turns_the_cache_off(cache, monkeypatch, tmp_path, caplog, kept, why):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / kept))
    use_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert caplog.messages == [
        f"the compilation cache is off: {tmp_path / kept / 'jaxcram' / 'xla'} cannot be written ({why}); "
        "set JAX_COMPILATION_CACHE_DIR=DIR to use another directory"
    ]
