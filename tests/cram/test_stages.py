import jax.numpy as jnp
import pytest

from jaxcram.cram import stages
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Progress, Stop
from jaxcram.errors import UserError


def progress(prefix, horizon=0, stage_steps=0, total_steps=0, stop=Stop.RUNNING):
    return Progress(*(jnp.array([int(value)]) for value in (prefix, horizon, stage_steps, total_steps, stop)))


def values(state):
    return tuple(int(field[0]) for field in state)


def test_the_longest_exact_prefix_is_at_most_the_target():
    correct = jnp.array([[True, True, False, True], [True] * 4, [False] * 4, [True] * 4])
    assert stages.longest_exact(correct, jnp.array([4, 4, 4, 3])).tolist() == [2, 4, 0, 3]


@pytest.mark.parametrize(
    ("step", "prefix", "exact", "length", "expected"),
    [  # expected: prefix, horizon, stage_steps, total_steps, stop
        (1, 3, 2, 10, (3, 0, 5, 9, Stop.RUNNING)),  # not reached: nothing moves
        (1, 3, 3, 10, (4, 3, 0, 9, Stop.RUNNING)),
        (1, 3, 6, 10, (7, 6, 0, 9, Stop.RUNNING)),  # three more stages came free
        (1, 3, 10, 10, (10, 10, 0, 9, Stop.COMPLETE)),
        (4, 4, 9, 20, (12, 8, 0, 9, Stop.RUNNING)),  # stages 4 and 8; 12 is next
        (4, 8, 11, 11, (11, 11, 0, 9, Stop.COMPLETE)),  # the last step is shorter
        (4, 4, 8, 10, (10, 8, 0, 9, Stop.RUNNING)),
    ],
)
def test_grow(step, prefix, exact, length, expected):
    state = progress(prefix, stage_steps=5, total_steps=9)
    grown = stages.grow(state, jnp.array([exact]), jnp.array([length]), StageSettings(progressive_step=step))
    assert values(grown) == expected


def test_a_lane_that_has_ended_does_not_grow():
    ended = progress(3, 2, 5, 9, Stop.STAGE_CAP)
    assert values(stages.grow(ended, jnp.array([7]), jnp.array([10]), StageSettings())) == values(ended)


@pytest.mark.parametrize(
    ("mode", "stage_steps", "total_steps", "stop"),
    [
        ("progressive", 999, 5000, Stop.RUNNING),
        ("progressive", 1000, 5000, Stop.STAGE_CAP),
        ("progressive", 3, 10_000, Stop.SAMPLE_CAP),
        ("full", 9999, 9999, Stop.RUNNING),
        ("full", 10_000, 10_000, Stop.SAMPLE_CAP),
    ],
)
def test_caps(mode, stage_steps, total_steps, stop):
    state = stages.spend(progress(5, 4, stage_steps, total_steps), StageSettings(mode=mode))
    assert int(state.stop[0]) == stop


@pytest.mark.parametrize(
    ("threshold", "right", "stop"),
    [  # of a target of 10 tokens
        (1.0, 10, Stop.RUNNING),  # what is exact is the business of `grow`
        (0.99, 9, Stop.RUNNING),
        (0.99, 10, Stop.CONVERGED),
        (0.9, 8, Stop.RUNNING),
        (0.9, 9, Stop.CONVERGED),
        (0.85, 8, Stop.RUNNING),
        (0.85, 9, Stop.CONVERGED),
    ],
)
def test_a_lane_of_full_cramming_converges_at_its_threshold(threshold, right, stop):
    settings = StageSettings(mode="full", full_threshold=threshold)
    correct = jnp.array([[False] * (10 - right) + [True] * (right + 6)])  # the padding does not count
    after = stages.converge(progress(10, 0, 5, 9), correct, jnp.array([10]), settings)
    assert values(after) == (10, 0, 5, 9, stop)
    ended = progress(10, 0, 5, 9, Stop.SAMPLE_CAP)
    assert values(stages.converge(ended, correct, jnp.array([10]), settings)) == values(ended)


@pytest.mark.parametrize(
    ("threshold", "tokens", "enough"),
    [(0.99, 100, 99), (0.99, 99, 99), (0.99, 101, 100), (0.99, 200, 198), (0.55, 20, 11), (1.0, 7, 7)],
)
def test_how_many_tokens_are_enough_is_not_rounded(threshold, tokens, enough):
    """0.55 * 20 is 11.000000000000002 in floating point, and 0.99 * 100 in fp32 99.00000095."""
    assert StageSettings(mode="full", full_threshold=threshold).enough(tokens) == enough


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"full_threshold": 0.0}, "full_threshold 0.0 must be greater than 0 and at most 1"),
        ({"full_threshold": 1.01}, "full_threshold 1.01 must be greater than 0 and at most 1"),
        ({"full_threshold": float("nan")}, "full_threshold nan must be greater than 0 and at most 1"),
        (
            {"full_threshold": 0.99, "mode": "progressive"},
            "full_threshold 0.99 does not apply to mode progressive, whose stages end when they are exact: "
            "use mode=full, or leave it out",
        ),
    ],
)
def test_wrong_thresholds(wrong, message):
    with pytest.raises(UserError) as error:
        StageSettings(**{"mode": "full"} | wrong)
    assert str(error.value) == message


def test_stages_between():
    assert StageSettings().between(3, 5) == [3, 4, 5]
    assert StageSettings(progressive_step=4).between(4, 11) == [4, 8, 11]
    assert StageSettings(mode="full").between(20, 20) == [20]
