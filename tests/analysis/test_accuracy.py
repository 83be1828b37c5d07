"""Accuracy of any points on a target, against a Llama in plain NumPy."""

import numpy as np
import pytest

from jaxcram import forward
from jaxcram.analysis import accuracy
from jaxcram.errors import UserError
from tests import plain
from tests.cram.conftest import tiny  # noqa: F401

TARGET = np.random.default_rng(3).integers(0, 48, 11).astype(np.int32)


def plainly_right(model, mem_KxD, target):
    """Which tokens are the argmax of the plain model's logits, bool [T]."""
    logits, _ = plain.run(model, mem_KxD, target)
    return logits[len(mem_KxD) - 1 : -1].argmax(-1) == target


def greedy_text(model, mem_KxD, length):
    """The text that the plain model reads from a memory."""
    text = []
    for _ in range(length):
        text.append(int(plain.run(model, mem_KxD, np.array(text, np.int32))[0][-1].argmax()))
    return np.array(text, np.int32)


@pytest.mark.parametrize("num_memory", [1, 3])
def test_each_point_has_the_tokens_right_that_the_plain_model_has(tiny, num_memory):  # noqa: F811
    """23 points in passes of 5 rows; the text is what one of them gives back."""
    rng = np.random.default_rng(0)
    centre = rng.normal(0, 1, (num_memory, tiny.config.width))
    points = centre + rng.normal(0, 1, (23, *centre.shape)) * np.linspace(0, 1, 23)[:, None, None]
    target = greedy_text(tiny, centre, 11)
    found = accuracy.correct(tiny, points, target, batch_tokens=80)
    expected = np.stack([plainly_right(tiny, point, target) for point in points])
    np.testing.assert_array_equal(found, expected)
    assert expected[0].all()
    assert 0 < expected[1:].mean() < 1, "the points differ"
    assert accuracy.accuracies(tiny, points, target).tolist() == expected.mean(axis=1).tolist()


def test_many_points_are_one_program_whatever_the_target(tiny):  # noqa: F811
    points = np.random.default_rng(1).normal(0, 1, (130, 2, tiny.config.width))
    before = forward._compared._cache_size()
    whole = accuracy.correct(tiny, points, TARGET, batch_tokens=96)
    for some in (points[:60], points[:126]):
        found = accuracy.correct(tiny, some, TARGET[:9], batch_tokens=96)  # the same padded length and rows
        np.testing.assert_array_equal(found, whole[: len(some), :9])
    assert forward._compared._cache_size() == before + 1


def test_a_pass_has_at_least_one_row_and_no_more_positions_than_the_model(tiny):  # noqa: F811
    points = np.random.default_rng(2).normal(0, 1, (2, 1, tiny.config.width))
    target = np.arange(64, dtype=np.int32) % 48  # with the memory, all positions that the model has
    found = accuracy.correct(tiny, points, target, batch_tokens=1)
    np.testing.assert_array_equal(found, [plainly_right(tiny, point, target) for point in points])


def test_no_points_have_no_accuracy(tiny):  # noqa: F811
    assert accuracy.accuracies(tiny, np.zeros((0, 1, tiny.config.width)), TARGET).shape == (0,)


def test_tokens_that_the_model_lacks_are_refused(tiny):  # noqa: F811
    with pytest.raises(UserError, match="the target"):
        accuracy.correct(tiny, np.zeros((1, 1, tiny.config.width)), np.array([48], np.int32))
