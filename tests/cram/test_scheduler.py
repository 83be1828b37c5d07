import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.scheduler import Scheduler, bucket_lengths
from jaxcram.cram.stages import Stop


def scheduler(prefixes, budget=64, length=100, devices=1):
    made = Scheduler(len(prefixes), length, 512, budget, len(prefixes), devices)
    made.observe(np.arange(len(prefixes)), np.array(prefixes), np.full(len(prefixes), Stop.RUNNING))
    return made


def test_bucket_lengths_hold_the_longest_target_and_stay_within_the_model():
    assert bucket_lengths(5, 512) == [16]
    assert bucket_lengths(49, 512) == [16, 24, 32, 48, 64]
    assert bucket_lengths(100, 512) == [16, 24, 32, 48, 64, 96, 128]
    assert bucket_lengths(500, 500) == [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 500]


def test_the_shortest_full_bucket_goes_first():
    # Bucket 16 has four seats and three lanes; bucket 32 has two seats and three lanes.
    bucket, slots = scheduler([1, 16, 2, 30, 31, 32]).next()
    assert bucket == Bucket(32, 2)
    assert slots.tolist() == [3, 4]


def test_without_a_full_bucket_the_shortest_goes_first():
    bucket, slots = scheduler([20, 5, 60], budget=160).next()
    assert bucket == Bucket(16, 3)
    assert slots.tolist() == [1]


def test_shapes_follow_from_the_run_alone_not_from_who_is_left():
    made = scheduler([1] * 32, budget=16 * 40)
    assert made.bucket(16) == Bucket(16, 32)  # no more seats than the run has lanes
    assert made.bucket(48) == Bucket(48, 13)
    made.observe(np.arange(31), np.full(31, 4), np.full(31, Stop.COMPLETE))
    assert made.next()[0] == Bucket(16, 32)
    resumed = Scheduler(1, 100, 512, 16 * 40, 32, 1)
    assert resumed.next()[0] == Bucket(16, 32)


def test_ended_lanes_are_never_seated_again():
    made = scheduler([1, 1, 1, 1])
    made.observe(np.array([0, 2]), np.array([4, 5]), np.array([Stop.COMPLETE, Stop.STAGE_CAP]))
    seen = made.next()[1]
    assert set(seen.tolist()) <= {1, 3}
    made.observe(np.array([1, 3]), np.array([4, 5]), np.array([Stop.NOT_FINITE, Stop.COMPLETE]))
    assert made.alive == 0
    assert made.next() is None


def test_the_budget_halves_until_one_shortest_lane_is_left():
    made = scheduler([1] * 8, budget=100)
    budgets = []
    while made.halve_budget():
        budgets.append(made.token_budget)
    assert budgets == [50, 25, 12]
    assert made.bucket(16).lanes == 1
