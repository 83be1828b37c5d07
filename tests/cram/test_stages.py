import jax.numpy as jnp
import pytest

from jaxcram.cram import stages
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Progress, Stop


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


def test_stages_between():
    assert StageSettings().between(3, 5) == [3, 4, 5]
    assert StageSettings(progressive_step=4).between(4, 11) == [4, 8, 11]
    assert StageSettings(mode="full").between(20, 20) == [20]
