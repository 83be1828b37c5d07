import pytest

from jaxcram.cram import profile
from jaxcram.cram.profile import Profile
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.cram.start import jobs_of
from jaxcram.errors import UserError
from tests.cram.engines import engine


@pytest.mark.slow
@pytest.mark.optimised
def test_the_trace_has_the_scopes_of_a_pass(tiny, samples, tmp_path):
    settings = CramSettings(
        learning_rates=(0.1,), stages=StageSettings(max_steps=12), token_budget=64, chunk_passes=2
    )
    run = engine(tiny, samples, settings, jobs_of(samples, settings))
    chunks = 0
    with Profile(str(tmp_path / "trace")) as trace:
        for _ in run.chunks(lambda now: None):
            trace.after_chunk()
            chunks += 1
    assert chunks > profile.FIRST
    (file,) = (tmp_path / "trace").rglob("*.xplane.pb")
    found = file.read_bytes()
    scopes = (b"embed", b"attention", b"mlp", b"head", b"select", b"optimiser")
    assert [scope for scope in scopes if scope + b"/" not in found] == []


def test_only_a_few_chunks_are_traced(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(profile.jax.profiler, "start_trace", lambda where: calls.append(where))
    monkeypatch.setattr(profile.jax.profiler, "stop_trace", lambda: calls.append("stop"))
    trace = Profile(str(tmp_path))
    counts = []
    for _ in range(8):
        trace.after_chunk()
        counts.append(len(calls))
    assert calls == [str(tmp_path), "stop"]
    assert counts == [0, 1, 1, 1, 2, 2, 2, 2]
    with Profile(None) as nothing:
        for _ in range(8):
            nothing.after_chunk()
    assert len(calls) == 2


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_run_too_short_for_a_trace_warns(tmp_path, caplog, monkeypatch, chunks):
    monkeypatch.setattr(profile.jax.profiler, "start_trace", lambda where: None)
    monkeypatch.setattr(profile.jax.profiler, "stop_trace", lambda: None)
    with Profile(str(tmp_path)) as trace:
        for _ in range(chunks):
            trace.after_chunk()
    told = f"the trace in {tmp_path} has no passes: it begins after 2 chunks, and the run had {chunks}"
    assert caplog.messages == ([told] if chunks < 3 else [])


def test_a_second_profiler_is_an_error(tmp_path):
    with profile.jax.profiler.trace(str(tmp_path / "first")):
        trace = Profile(str(tmp_path / "second"))
        trace.after_chunk()
        with pytest.raises(UserError, match=r"profile_dir .*second: JAX cannot trace"):
            trace.after_chunk()


def test_an_impossible_trace_directory_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"profile_dir .*file/trace: cannot be created \(Not a directory\)"):
        Profile(str(tmp_path / "file" / "trace"))
