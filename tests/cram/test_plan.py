import dataclasses
import json
import math

import numpy as np
import pytest

from jaxcram.cram import plan as planning
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.settings import StageSettings

TIME = PassTime(fixed_s=0.057, token_s=0.0033)  # SmolLM2-135M on two cores


def work(*lengths, per_text=1, **stages):
    return Work.of(lengths, per_text, StageSettings(**stages))


def test_growing_lanes_have_work_at_every_prefix_up_to_their_length():
    made = work(2, 4, per_text=3, max_steps_per_token=50)
    assert made.lanes_N.tolist()[1:] == [6, 6, 3, 3]
    assert made.steps_N.tolist()[1:] == [50, 50, 50, 50]
    assert made.between(0, 2) == (6, 100.0)
    assert made.between(1, 4) == (6, (6 * 50 + 3 * 50 + 3 * 50) / 6)
    assert made.between(2, 4) == (3, 100.0)


def test_prefixes_that_are_skipped_cost_nothing_but_the_last_one_does():
    made = work(9, min_tokens=3, progressive_step=4)
    assert np.flatnonzero(made.steps_N).tolist() == [3, 7, 9]
    assert made.steps_N[3] == 4 * planning.STEPS_PER_TOKEN
    assert made.between(3, 6) == (0, 0.0)
    shorter = work(2, min_tokens=5)
    assert np.flatnonzero(shorter.steps_N).tolist() == [2]


def test_lanes_of_full_cramming_work_at_their_own_length_only():
    made = work(3, 3, 8, mode="full", max_steps=500)
    assert made.between(0, 3) == (2, 300.0)
    assert made.between(3, 7) == (0, 0.0)
    assert made.between(3, 8) == (1, 500.0)
    assert Plan.best(made, TIME, 1, 100).buckets[-1].tokens == 8


def predicted(buckets, made, at_once, time=TIME):
    """The seconds of a plan, by the formula of the docstring."""
    seconds, low = 0.0, 0
    for bucket in buckets:
        lanes, steps = made.between(low, bucket.tokens)
        passes = steps * (lanes / (at_once * bucket.lanes) + made.drains)
        seconds += passes * time(bucket) + planning.COMPILE_S
        low = bucket.tokens
    return seconds


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize(("lanes", "longest"), [(2, 6), (8, 7), (24, 5)])
def test_the_best_plan_is_the_best_of_all(at_once, lanes, longest):
    """Against a search over all sets of lengths and all numbers of lanes."""
    made = work(*[longest] * lanes)
    found = Plan.best(made, TIME, at_once, 100)
    assert found.seconds == pytest.approx(predicted(found.buckets, made, at_once))
    assert found.at_once == at_once
    least = math.inf
    for chosen in range(2 ** (longest - 1)):
        lengths = [n for n in range(1, longest) if chosen >> (n - 1) & 1] + [longest]
        widest = range(1, -(-lanes // at_once) + 1)
        allowed = [n for n in widest if n <= 16 or n % 8 == 0]
        each = zip([0, *lengths], lengths, strict=False)
        least = min(
            least,
            sum(
                min(
                    made.between(low, high)[1] * (lanes / (at_once * n) + made.drains) * TIME(Bucket(high, n))
                    + planning.COMPILE_S
                    for n in allowed
                )
                for low, high in each
            ),
        )
    assert found.seconds == pytest.approx(least)


def test_lanes_that_all_wait_from_the_first_step_on_have_more_buckets_and_wider_ones(monkeypatch):
    """The contexts of 16 items of HellaSwag with Gemma-3-270M, of 1,000 steps each."""
    lengths = [10, 11, 18, 18, 19, 21, 23, 24, 25, 25, 27, 27, 29, 31, 32, 37]
    made, time = work(*lengths, mode="full", max_steps=1000), PassTime(0.08, 0.0055)
    plan = Plan.best(made, time, 1, 2048)
    assert plan.buckets == (Bucket(28, 3), Bucket(40, 1))
    assert plan.seconds == pytest.approx(predicted(plan.buckets, made, 1, time))
    monkeypatch.setattr(planning, "DRAINS_FULL", planning.DRAINS_GROWING)  # as if they came one by one
    assert Plan.best(made, time, 1, 2048).buckets == (Bucket(40, 1),)


def test_a_large_fixed_part_makes_passes_wide_and_a_small_one_narrow():
    made = work(*[64] * 40)
    wide, narrow = (Plan.best(made, PassTime(fixed, 1e-3), 1, 100).bucket(32) for fixed in (1.0, 1e-3))
    assert (wide.lanes, narrow.lanes) == (18, 1)


def test_compiling_a_short_bucket_must_be_worth_it():
    quick = Plan.best(work(*[16] * 8), PassTime(1e-6, 1e-6), 1, 100)
    assert [bucket.tokens for bucket in quick.buckets] == [16]
    assert [bucket.tokens for bucket in Plan.best(work(*[16] * 8), TIME, 1, 100).buckets][:4] == [1, 2, 3, 4]


def test_the_last_bucket_holds_the_longest_target_and_stays_within_the_model():
    def last(longest, max_positions=4096):
        return Plan.best(work(longest), TIME, 1, max_positions).buckets[-1].tokens

    assert [last(5), last(17), last(100), last(1568)] == [5, 20, 104, 1568]
    assert last(250, max_positions=250) == 250


def test_a_pass_has_no_more_lanes_than_the_run_and_its_tokens_fit():
    made = Plan.best(work(*[12] * 5), PassTime(1.0, 1e-6), 1, 100)
    assert {bucket.lanes for bucket in made.buckets} == {5}
    assert {bucket.lanes for bucket in Plan.best(work(*[12] * 5), PassTime(1.0, 1e-6), 2, 100).buckets} == {3}
    tight = Plan.best(work(*[64] * 40), PassTime(1.0, 1e-3), 1, 100, most_tokens=128)
    assert tight.token_budget == 128
    assert tight.bucket(64) == Bucket(64, 2)
    assert Plan.best(work(*[64] * 40), PassTime(1.0, 1e-3), 1, 100, most_tokens=50).bucket(64).lanes == 1


def test_short_passes_have_whole_vectors_of_lanes():
    """Beyond 16 lanes; the rest of a vector would round otherwise."""
    made = Plan.of_budget(work(*[20] * 200), 92, 1, 100)
    assert made.buckets == ((4, 16), (8, 11), (12, 7), (16, 5), (20, 4))
    assert Plan.of_budget(work(*[20] * 200), 100, 1, 100).bucket(4).lanes == 24


def test_a_token_budget_fills_passes_with_what_the_run_has():
    made = Plan.of_budget(work(20, 20, 20), 64, 1, 22)
    assert made.buckets == ((4, 3), (8, 3), (12, 3), (16, 3), (20, 3))
    assert Plan.of_budget(work(20, 20, 20), 64, 2, 22).bucket(8).lanes == 2
    assert Plan.of_budget(work(3), 64, 1, 22).buckets == ((3, 1),)


def test_the_largest_pass_is_halved_until_every_pass_has_one_lane():
    plan = Plan.of_budget(work(*[24] * 64), 1000, 1, 100)
    budgets = []
    while plan:
        budgets.append(plan.token_budget)
        last, plan = plan, plan.halved()
    assert budgets == [1000, 500, 240, 120, 60, 28, 12, 1]
    assert {bucket.lanes for bucket in last.buckets} == {1}
    assert Plan.of_budget(work(*[24] * 64), 1000, 1, 100).halved() == Plan.of_budget(
        work(*[24] * 64), 500, 1, 100
    )


def test_a_plan_survives_json():
    plan = Plan.best(work(*[30] * 9), TIME, 2, 100)
    assert Plan.of_json(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan


def test_memory_embeddings_are_tokens_too():
    """Of 32, a lane of one token reads 32: its passes are narrower, and memory holds fewer."""
    time = dataclasses.replace(TIME, before=31)
    assert time(Bucket(1, 2)) == pytest.approx(0.057 + 0.0033 * 64)
    made = work(*[8] * 40)
    one, many = (Plan.best(made, each, 1, 100).bucket(1).lanes for each in (TIME, time))
    assert (one, many) == (13, 2)
    fits = Plan.best(made, PassTime(1.0, 1e-6, before=31), 1, 100, most_tokens=100)
    assert [bucket.lanes for bucket in fits.buckets] == [100 // (tokens + 31) for tokens, _ in fits.buckets]


def test_no_bucket_is_longer_than_the_positions_of_the_model():
    assert Plan.of_budget(work(25), 64, 1, 26).buckets[-1] == (26, 1)


@pytest.mark.parametrize(
    "change",
    [{"buckets": []}, {"buckets": [[8, 2], [8, 1]]}, {"buckets": [["a", 2]]}, {"at_once": 0}, {"time": 1}],
)
def test_a_damaged_plan_is_refused(change):
    stored = json.loads(json.dumps(dataclasses.asdict(Plan.best(work(9), TIME, 1, 100))))
    with pytest.raises((LookupError, TypeError, ValueError)):
        Plan.of_json({**stored, **change})
