import itertools

import numpy as np
import pytest

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.scheduler import PassCost, Plan, Scheduler
from jaxcram.cram.stages import Stop


def scheduler_of(num_lanes, longest, cost, devices=1, count=None, max_positions=512):
    plan = Plan.of(num_lanes, longest, max_positions)
    return Scheduler(num_lanes if count is None else count, plan, cost, num_lanes, devices)


def scheduler(prefixes, budget=64, length=100, devices=1):
    made = scheduler_of(len(prefixes), length, PassCost(budget), devices=devices)
    made.observe(np.arange(len(prefixes)), np.array(prefixes), np.full(len(prefixes), Stop.RUNNING))
    return made


def test_bucket_lengths_hold_the_longest_target_and_stay_within_the_model():
    def lengths(longest, max_positions=512, num_lanes=8):
        return list(Plan.of(num_lanes, longest, max_positions).lengths)

    assert lengths(5) == [16]
    assert lengths(49) == [16, 24, 32, 48, 64]
    assert lengths(100) == [16, 24, 32, 48, 64, 80, 96, 112]
    assert lengths(250, 250) == [16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 250]
    assert lengths(17, num_lanes=15) == [16, 24]
    assert lengths(17, num_lanes=16) == lengths(17, num_lanes=95) == [10, 16, 24]
    assert lengths(17, num_lanes=96) == [4, 5, 6, 8, 10, 12, 16, 20]
    assert lengths(70, num_lanes=96)[-6:] == [32, 40, 48, 56, 64, 80]


def test_a_pass_holds_the_lanes_that_cost_least():
    """The shapes of the cost model, checked against a search over all numbers of lanes."""

    def total(lanes, length, num_lanes, drains):  # in tokens, per step of a lane, on two devices
        return (num_lanes / 2 / lanes + drains) * (15 + lanes * length)

    for num_lanes, drains in ((8, 3), (32, 3), (128, 11), (1024, 11)):
        made = scheduler_of(num_lanes, 400, PassCost(10_000, 15.0), devices=2)
        for length in (16, 24, 64, 320):
            best = min(range(1, 200), key=lambda b: total(b, length, num_lanes, drains))
            assert abs(made.bucket(length).lanes - best) <= 1
    assert made.bucket(16).lanes == 7
    assert scheduler_of(32, 400, PassCost(40, 15.0), devices=2).bucket(24).lanes == 1


def test_on_several_devices_a_chunk_seats_lanes_for_all_of_them():
    bucket, slots = scheduler([1] * 9, budget=32, devices=4).next()
    assert bucket == Bucket(16, 2)
    assert slots.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert scheduler([1] * 3, budget=64, devices=4).next()[0] == Bucket(16, 1)


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
    assert made.next()[0] == Bucket(10, 32)
    resumed = scheduler_of(32, 100, PassCost(16 * 40), count=1)
    assert resumed.next()[0] == Bucket(10, 32)


def test_ended_lanes_are_never_seated_again():
    made = scheduler([1, 1, 1, 1])
    made.observe(np.array([0, 2]), np.array([4, 5]), np.array([Stop.COMPLETE, Stop.STAGE_CAP]))
    seen = made.next()[1]
    assert set(seen.tolist()) <= {1, 3}
    made.observe(np.array([1, 3]), np.array([4, 5]), np.array([Stop.NOT_FINITE, Stop.COMPLETE]))
    assert made.alive == 0
    assert made.next() is None


@pytest.mark.parametrize("knee", [0.0, 30.0])
def test_the_largest_pass_is_halved_until_every_lane_is_alone(knee):
    """Whether the budget or the knee had limited the lanes: a pass as large as before would not fit."""
    made = scheduler_of(64, 24, PassCost(1000, knee), max_positions=100)
    lengths = Plan.of(64, 24, 100).lengths

    def largest() -> int:
        return max(bucket.tokens * bucket.lanes for bucket in map(made.bucket, lengths))

    sizes = [largest()]
    while made.halve_budget():
        sizes.append(largest())
    assert all(after <= max(before // 2, lengths[-1]) for before, after in itertools.pairwise(sizes))
    assert [made.bucket(length).lanes for length in lengths] == [1] * len(lengths)
    assert len(sizes) >= 3
