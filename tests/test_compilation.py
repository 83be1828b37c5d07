import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxcram.compilation import CompileTime, use_cache


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


def test_time_spent_and_saved_is_counted_while_the_clock_is_open():
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


def test_a_directory_that_is_set_already_stays(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    use_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_a_home_that_cannot_be_written_leaves_the_cache_off(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_cache()
    assert jax.config.jax_compilation_cache_dir is None
