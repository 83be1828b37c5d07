import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram import api
from jaxcram.cram import chunk, groups, lanes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.settings import StageSettings
from jaxcram.cram.stages import Stop
from jaxcram.devices import mesh
from jaxcram.devices.packed import Packed
from jaxcram.text.tokens import Sample

SETTINGS = PassSettings(stages=StageSettings(max_steps_per_token=20), chunk_passes=12)


def pool_of(model, samples, seed=0, settings=SETTINGS, rate=0.5):
    tokens = np.zeros((len(samples), 48), np.int32)
    for row, sample in zip(tokens, samples, strict=True):
        row[: len(sample.tokens)] = sample.tokens
    length = jnp.array([len(sample.tokens) for sample in samples], jnp.int32)
    mem = jax.random.uniform(jax.random.key(seed), (len(samples), 1, model.config.width), maxval=0.02)
    return lanes.init_pool(
        lanes.Problem(jnp.asarray(tokens), length, jnp.full(len(samples), rate)), mem, settings
    )


def seats_of(model, pool, slots, length=48):
    """Lanes of a pool on the model's device, with an ended one where the number is beyond them."""
    seats = groups.seated_lanes(jax.tree.map(np.asarray, pool), np.asarray(slots), length)
    return mesh.replicated(Packed.of(seats), mesh.of(model))


def run_chunk(model, pool, slots, bucket, settings, floor=1):
    """A chunk over some lanes of a pool; the pool after it, and what the chunk reports."""
    seats = seats_of(model, pool, slots, bucket.tokens)
    after, result = chunk.run_chunk(model, seats, bucket, settings, mesh.of(model), floor)
    slots = jnp.asarray(slots)
    state = jax.tree.map(lambda x, y: x.at[slots].set(y, mode="drop"), pool.state, after.unpack().state)
    return pool._replace(**state._asdict()), result.unpack()


def same_lane(one, i, other, j):
    """Whether two lanes of two pools are equal to the bit, leaf by leaf."""
    return [
        np.array_equal(x[i], y[j], equal_nan=True)
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    ]


@pytest.mark.optimised
def test_other_lanes_of_a_batch_real_or_dummy_change_no_bit(tiny, samples):
    bucket = Bucket(16, 3)
    together, _ = run_chunk(tiny, pool_of(tiny, samples), jnp.array([0, 1, 2]), bucket, SETTINGS)
    reordered, _ = run_chunk(tiny, pool_of(tiny, samples), jnp.array([2, 1, 0]), bucket, SETTINGS)
    alone, _ = run_chunk(tiny, pool_of(tiny, samples), jnp.array([3, 1, 3]), bucket, SETTINGS)
    assert all(same_lane(together, 1, alone, 1))
    assert all(same_lane(together, 0, reordered, 0))
    fresh = pool_of(tiny, samples)
    assert all(same_lane(alone, 0, fresh, 0)), "a lane that had no seat was touched"
    assert not all(same_lane(together, 1, fresh, 1)), "nothing happened at all"


def test_one_trace_per_bucket(tiny, samples, monkeypatch):
    traced = []
    original = lanes.one_pass

    def counting(model, state, length, settings):
        traced.append((length, state.problem.length.shape[0]))
        return original(model, state, length, settings)

    monkeypatch.setattr(chunk, "one_pass", counting)
    settings = PassSettings(stages=StageSettings(max_steps_per_token=20), chunk_passes=11)  # nobody else's
    pool = pool_of(tiny, samples, settings=settings)
    for bucket in (Bucket(16, 2), Bucket(24, 2)):
        for slots in ([0, 1], [2, 3], [1, 0]):
            pool, _ = run_chunk(tiny, pool, jnp.array(slots), bucket, settings)
    # The shape of a record is asked for once, and the loop's body is traced once.
    assert traced == [(16, 2)] * 2 + [(24, 2)] * 2


def test_a_lane_that_outgrew_its_bucket_is_unchanged_until_it_gets_a_longer_one(tiny, samples):
    pool = pool_of(tiny, samples)
    outgrown = pool._replace(
        progress=pool.progress._replace(prefix=jnp.array([17, 1, 1]), horizon=jnp.array([16, 0, 0]))
    )
    after, result = run_chunk(tiny, outgrown, jnp.array([0, 1, 2]), Bucket(16, 3), SETTINGS)
    assert all(same_lane(after, 0, outgrown, 0))
    assert int(result.lane_steps[0]) == int(after.progress.total_steps[1:].sum())
    longer, _ = run_chunk(tiny, after, jnp.array([0, 3, 3]), Bucket(24, 3), SETTINGS)
    assert int(longer.progress.total_steps[0]) == SETTINGS.chunk_passes


def test_a_lane_with_a_non_finite_loss_ends_and_others_continue(tiny, samples):
    clean = pool_of(tiny, samples)
    poisoned = clean._replace(params=clean.params.at[1].set(jnp.nan))
    # The lane's end closes the first chunk, so a second one follows; the clean lanes need as many passes.
    for slots in ([0, 1, 2], [0, 3, 2]):
        until_one_leaves = len({*slots} - {3})
        poisoned, result = run_chunk(tiny, poisoned, slots, Bucket(16, 3), SETTINGS, until_one_leaves)
        if slots[1] == 1:
            assert int(result.passes[0]) == 1
            assert result.records.stop[:, 0].tolist() == [Stop.RUNNING, Stop.NOT_FINITE, Stop.RUNNING]
    one = PassSettings(stages=SETTINGS.stages, chunk_passes=1)
    clean, _ = run_chunk(tiny, clean, jnp.array([0, 1, 2]), Bucket(16, 3), one)
    clean, _ = run_chunk(tiny, clean, jnp.array([0, 3, 2]), Bucket(16, 3), SETTINGS)
    assert int(poisoned.progress.total_steps[1]) == 0
    assert int(poisoned.progress.total_steps[0]) > 1
    assert all(same_lane(poisoned, 0, clean, 0))
    assert all(same_lane(poisoned, 2, clean, 2))


def test_a_chunk_ends_when_fewer_lanes_than_the_floor_are_active(tiny, samples):
    settings = PassSettings(stages=StageSettings(max_steps_per_token=3), chunk_passes=12)
    _, result = run_chunk(
        tiny,
        pool_of(tiny, samples, settings=settings),
        jnp.arange(3),
        Bucket(16, 3),
        settings,
        3,
    )
    # Whoever spends three steps on a stage ends in the pass after them; three of three are needed to go on.
    first_end = min(
        int(np.argmax(result.records.stop[i] != 0)) for i in range(3) if result.records.stop[i].any()
    )
    assert int(result.passes[0]) == first_end + 1
    assert int(result.passes[0]) < 12


def test_useful_tokens_are_the_prefixes_of_running_lanes(tiny, samples):
    _, result = run_chunk(tiny, pool_of(tiny, samples), jnp.array([0, 3, 3]), Bucket(16, 3), SETTINGS)
    records, passes = result.records, int(result.passes[0])
    assert int(result.useful_tokens[0]) == int(records.prefix[0, :passes].sum())
    assert int(result.lane_steps[0]) == int(result.state.progress.total_steps[0])


@pytest.mark.parametrize("remat", [False, True])
def test_the_recorded_embedding_is_the_measured_one(tiny, samples, remat):
    settings = PassSettings(stages=StageSettings(max_steps_per_token=20), chunk_passes=12, remat=remat)
    pool = pool_of(tiny, samples, settings=settings)
    _, result = run_chunk(tiny, pool, jnp.arange(3), Bucket(16, 3), settings)
    for p in (0, 5, int(result.passes[0]) - 1):
        again = pool._replace(params=result.records.mem[:, p])
        _, measured = jax.jit(lanes.one_pass, static_argnums=(2, 3))(tiny, again, 16, settings)
        np.testing.assert_array_equal(measured.exact, result.records.exact[:, p])
        np.testing.assert_allclose(measured.nll, result.records.nll[:, p], atol=1e-5)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("length", "seats"), [(2, 24), (4, 16), (10, 12)])
def test_a_lane_has_the_same_bits_in_every_seat_of_the_buckets_that_runs_have(length, seats):
    """A run that goes on seats its lanes anew. On the bundled model, with the buckets of 800 lanes."""
    model = api.load_model()
    work = Work.of([40] * 800, 1, StageSettings())
    assert Bucket(length, seats) in Plan.best(work, PassTime(2.4e-4, 3.4e-5), 1, 64).buckets
    (text,) = api.load_texts("bundled", num_samples=1)
    sample = Sample(0, text.text, np.array(model.tokenizer.encode(text.text)[:40], np.int32))
    (decoder,) = mesh.apart(model.decoder)[:1]
    pool = pool_of(decoder, [sample] * seats, rate=0.1)
    pool = pool._replace(params=jnp.repeat(pool.params[:1], seats, axis=0))
    after, result = run_chunk(decoder, pool, jnp.arange(seats), Bucket(length, seats), SETTINGS)
    assert int(result.passes[0]) == SETTINGS.chunk_passes
    assert [all(same_lane(after, seat, after, 0)) for seat in range(seats)] == [True] * seats


@pytest.mark.optimised
def test_donated_lanes_are_updated_in_place(tiny, samples):
    seats = seats_of(tiny, pool_of(tiny, samples), [0, 1, 2], 16)
    given = (Bucket(16, 3), SETTINGS, mesh.of(tiny))
    aliased = chunk.run_chunk.lower(tiny, seats, *given).compile().memory_analysis().alias_size_in_bytes
    assert aliased == sum(leaf.nbytes for leaf in jax.tree.leaves(seats))
    after, _ = chunk.run_chunk(tiny, seats, *given)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(seats))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_a_chunk_reports_the_state_of_its_lanes(tiny, samples):
    after, result = run_chunk(tiny, pool_of(tiny, samples), [2, 3, 0], Bucket(16, 3), SETTINGS)
    for seat, slot in ((0, 2), (2, 0)):
        assert all(same_lane(result.state, seat, after.state, slot))
