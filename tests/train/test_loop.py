"""The training loop: whatever ends a run, the next start goes on to the same result, to the bit."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram.errors import Interrupted, UserError
from jaxcram.results.directory import RunDirectory
from jaxcram.results.identity import RunKind
from jaxcram.train.loop import Pace, Training, finished, train

KIND = RunKind("test", tables=(), agreed=lambda path, was, now, defaults: dict(now))
STEPS, CHECKPOINTS, LOGS = 10, 4, 3


@jax.jit
def step(state: dict[str, jax.Array], batch_D: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Gradient descent with momentum, and a count as optimisers have it."""
    loss, gradient_D = jax.value_and_grad(lambda x_D: jnp.sum((x_D - batch_D) ** 2))(state["x"])
    speed_D = 0.9 * state["speed"] + gradient_D
    return {"x": state["x"] - 0.01 * speed_D, "speed": speed_D, "count": state["count"] + 1}, loss


def batch(number: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(number).random(3), jnp.float32)


def training(
    batch: Callable[[int], jax.Array] = batch, *, steps: int = STEPS, kept: list[Any] | None = None
) -> Training:
    def keep(state: dict[str, jax.Array], done: int) -> dict[str, Any]:
        if kept is not None:
            kept.append(done)
        return {"x": np.asarray(state["x"]).tolist(), "count": int(state["count"])}

    state = {"x": jnp.zeros(3), "speed": jnp.zeros(3), "count": jnp.zeros((), jnp.int32)}
    pace = Pace(steps, steps_matter_from=6, tokens=5, checkpoint_every=CHECKPOINTS, log_every=LOGS)
    return Training(state, step, batch, keep, pace)


def trained(training: Training, path: Path | str) -> dict[str, Any]:
    with RunDirectory.open(path, {}, kind=KIND) as directory:
        return train(training, directory, lambda line: None)


def at(number: int, act: Callable[[], None], seen: list[int] | None = None) -> Callable[[int], jax.Array]:
    """Batches, before one of which something happens."""

    def batches(now: int) -> jax.Array:
        if seen is not None:
            seen.append(now)
        if now == number:
            act()
        return batch(now)

    return batches


def result(summary: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {name: value for name, value in summary.items() if name not in ("wall_s", "tokens_per_s")}


def events(path: Path, *names: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in names if name in line} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a run without a break."""
    return result(trained(training(), tmp_path_factory.mktemp("whole") / "run"))


def test_a_run_without_a_break(tmp_path: Path):
    kept: list[int] = []
    summary = trained(training(kept=kept), tmp_path)
    x, losses = np.zeros(3, np.float32), []
    speed = np.zeros(3, np.float32)
    for number in range(STEPS):
        off = x - np.asarray(batch(number))
        losses.append(float((off**2).sum()))
        speed = np.float32(0.9) * speed + 2 * off
        x = x - np.float32(0.01) * speed
    assert summary["x"] == pytest.approx(x.tolist(), rel=1e-5)
    assert (summary["steps"], summary["tokens"], summary["count"]) == (STEPS, 5 * STEPS, STEPS)
    assert summary["train_loss"] == pytest.approx(losses[-1], rel=1e-5)  # the last interval has one step
    assert kept == [4, 8, 10]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.jsonl",
        "run.lock",
        "settings.json",
        "summary.json",
    ]
    log = events(tmp_path, "event", "step", "steps", "train_loss")
    assert [(line["event"], line.get("step", line.get("steps"))) for line in log] == [
        ("start", 0),
        ("train", 3),
        ("checkpoint", 4),
        ("evaluation", 4),
        ("train", 6),
        ("checkpoint", 8),
        ("evaluation", 8),
        ("train", 9),
        ("train", 10),
        ("checkpoint", 10),
        ("evaluation", 10),
    ]
    assert log[1]["train_loss"] == pytest.approx(np.mean(losses[:3]), rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop", [0, 4, 7, STEPS - 1])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch, whole, stop, number):
    """From its very step, also in the middle of a log interval; and with a relative path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted) as raised:
        trained(training(at(stop, lambda: signal.raise_signal(number))), "run")
    assert (raised.value.directory, raised.value.exit_code) == (tmp_path / "run", 128 + number)
    seen: list[int] = []
    assert result(trained(training(at(-1, lambda: None, seen)), "run")) == whole
    assert seen == list(range(stop + 1, STEPS))


def crash() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(("stop", "first"), [(2, 0), (7, 4), (9, 8)])
def test_a_run_that_broke_off_goes_on_from_its_checkpoint(tmp_path, whole, stop, first):
    with pytest.raises(ZeroDivisionError):
        trained(training(at(stop, crash)), tmp_path)
    seen: list[int] = []
    assert result(trained(training(at(-1, lambda: None, seen)), tmp_path)) == whole
    assert seen == list(range(first, STEPS))


def test_a_run_that_broke_off_after_its_last_step_is_only_kept(tmp_path, whole):
    def fails(state: Any, done: int) -> dict[str, Any]:
        return {} if done < STEPS else crash() or {}

    broken = training()
    with pytest.raises(ZeroDivisionError):
        trained(Training(broken.state, step, batch, fails, broken.pace), tmp_path)
    assert result(trained(training(at(-1, crash)), tmp_path)) == whole


def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path, whole, caplog):
    with pytest.raises(ZeroDivisionError):
        trained(training(at(9, crash)), tmp_path)
    for file in (tmp_path / "checkpoints" / "state" / "2").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    seen: list[int] = []
    assert result(trained(training(at(-1, lambda: None, seen)), tmp_path)) == whole
    assert seen == list(range(4, STEPS))
    assert [record.getMessage().rsplit("; ", 1)[1] for record in caplog.records] == [
        "using checkpoint 1 instead"
    ]


def test_a_finished_run_has_its_summary(tmp_path):
    summary = trained(training(), tmp_path)
    with RunDirectory.open(tmp_path, {}, kind=KIND) as directory:
        assert finished(directory, STEPS) == summary
        with pytest.raises(UserError) as refusal:
            finished(directory, 12)
    assert str(refusal.value) == (
        f"steps=12: the run in {tmp_path} is at step 10 of 10, and its learning rate already depends on "
        "that; keep it, or choose another directory"
    )


def test_steps_may_change_as_long_as_the_past_does_not_depend_on_them(tmp_path):
    with pytest.raises(ZeroDivisionError):
        trained(training(at(5, crash)), tmp_path)  # its checkpoint is of step 4
    with pytest.raises(ZeroDivisionError):
        trained(training(at(10, crash), steps=12), tmp_path)  # and now of step 8
    with pytest.raises(UserError, match=r"^steps=10: the run in .* is at step 8 of 12, "):
        trained(training(), tmp_path)
    assert trained(training(steps=12), tmp_path)["count"] == 12


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(tmp_path):
    def batches(number: int) -> jax.Array:
        return batch(number) / (number != 7)

    with pytest.raises(UserError) as refusal:
        trained(training(batches), tmp_path)
    assert str(refusal.value) == (
        f"step 8: the loss is inf; lower the learning rate, and choose another directory than {tmp_path}"
    )
    assert [path.name for path in (tmp_path / "checkpoints" / "state").iterdir()] == ["1"]


def test_a_checkpoint_of_another_state_is_refused(tmp_path):
    with pytest.raises(ZeroDivisionError):
        trained(training(at(5, crash)), tmp_path)
    other = training()
    other.state["x"] = jnp.zeros(4)
    with pytest.raises(
        UserError, match=r"^the checkpoints are of another version of jaxcram; remove the folder"
    ):
        trained(other, tmp_path)
