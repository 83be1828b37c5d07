import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.cram.plan import PassTime, Plan
from jaxcram.cram.scheduler import Scheduler
from jaxcram.cram.stages import Stop

LENGTHS = 16, 24, 32, 48, 64, 80, 96, 112


def plan(budget, lanes, at_once=1):
    """Passes of at most so many tokens, and not more lanes than there are on each device."""
    widths = ((length, max(1, min(budget // length, -(-lanes // at_once)))) for length in LENGTHS)
    return Plan(tuple(Bucket(*each) for each in widths), at_once, PassTime(0.0, 1.0), 0.0)


def scheduler_of(lanes, budget, devices=1, count=None, groups=1):
    return Scheduler(lanes if count is None else count, plan(budget, lanes, devices), groups)


def scheduler(prefixes, budget=64, devices=1):
    made = scheduler_of(len(prefixes), budget, devices=devices)
    made.observe(np.arange(len(prefixes)), np.array(prefixes), np.full(len(prefixes), Stop.RUNNING))
    return made


def test_a_chunk_on_several_devices_has_lanes_for_all_of_them():
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


def test_ended_lanes_are_never_scheduled_again():
    made = scheduler([1, 1, 1, 1])
    made.observe(np.array([0, 2]), np.array([4, 5]), np.array([Stop.COMPLETE, Stop.STAGE_CAP]))
    seen = made.next()[1]
    assert set(seen.tolist()) <= {1, 3}
    made.observe(np.array([1, 3]), np.array([4, 5]), np.array([Stop.NOT_FINITE, Stop.COMPLETE]))
    assert made.alive == 0
    assert made.next() is None


def taking_turns(prefixes, num_lanes=0):
    """Two groups of one device; passes of 32 tokens, without a knee, of at most half the run's lanes."""
    count = len(prefixes)
    made = scheduler_of(num_lanes or count, 32, devices=2, count=count, groups=2)
    made.observe(np.arange(len(prefixes)), np.array(prefixes), np.full(len(prefixes), Stop.RUNNING))
    return made


def finish(made, turn, prefixes):
    made.done(turn, np.array(prefixes), np.full(len(prefixes), Stop.RUNNING))


def test_no_lane_is_in_two_groups():
    made = taking_turns([1, 2, 3, 4, 20])
    one, two = made.turns()
    assert (one.group, one.bucket, one.seated.tolist()) == (0, Bucket(16, 2), [0, 1])
    assert (two.group, two.bucket, two.seated.tolist()) == (1, Bucket(16, 2), [2, 3])
    assert made.turns() == []
    finish(made, two, [17, 18])
    (three,) = made.turns()
    assert (three.group, three.bucket, three.seated.tolist()) == (1, Bucket(24, 1), [2])


def test_lanes_stay_in_their_group():
    made = taking_turns([1, 2, 3])
    one, two = made.turns()
    assert (one.stays, two.stays) == (False, False)
    finish(made, two, [5])
    (again,) = made.turns()
    assert (again.group, again.stays, again.seated.tolist()) == (1, True, [2])
    finish(made, one, [6, 40])
    (moved,) = made.turns()
    assert (moved.group, moved.stays, moved.bucket, moved.seated.tolist()) == (0, False, Bucket(48, 1), [1])
    assert made.next()[1].tolist() == [0]


def test_lanes_new_in_a_bucket_do_not_replace_those_that_stay():
    made = taking_turns([1, 2, 17, 18])
    one, two = made.turns()
    assert (one.seated.tolist(), two.seated.tolist()) == ([0, 1], [2])
    finish(made, one, [19, 20])  # both now have slots before that of the lane which sits
    (upper,) = made.turns()
    assert (upper.bucket, upper.seated.tolist()) == (Bucket(24, 1), [0])
    finish(made, two, [18])
    (again,) = made.turns()
    assert (again.group, again.stays, again.seated.tolist()) == (1, True, [2])


def test_an_idle_group_does_not_take_lanes_from_a_group_that_had_them():
    made = taking_turns([1, 2], num_lanes=4)
    (one,) = made.turns()
    assert one.group == 0
    for _ in range(2):
        finish(made, one, [3, 3])
        (one,) = made.turns()
        assert (one.group, one.stays) == (0, True)


def test_turns_in_progress_are_in_the_order_of_their_start():
    made = taking_turns([1, 2, 30])
    one, two = made.turns()
    assert made.under_way == [one, two]
    finish(made, one, [3, 3])
    (again,) = made.turns()
    assert (again.group, made.under_way) == (0, [two, again])
    finish(made, again, [40, 3])
    assert made.under_way == [two]


def test_turns_in_progress_are_scheduled_again_after_an_error():
    made = taking_turns([1, 2, 3, 4])
    before = made.turns()
    made.drop()
    after = made.turns()
    assert [turn.seated.tolist() for turn in after] == [turn.seated.tolist() for turn in before]
    assert not any(turn.stays for turn in after), "the lanes are not on the devices any more"


def test_groups_of_several_devices_do_not_end_early():
    def floors(groups):
        made = scheduler_of(8, 32, devices=2, groups=groups)
        return [turn.floor for turn in made.turns()]

    assert floors(1) == [1]
    assert floors(2) == [2, 2]
