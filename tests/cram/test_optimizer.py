import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcram.cram import optimizer
from jaxcram.cram.settings import OptimizerSettings

SETTINGS = OptimizerSettings()


def test_schedule_is_optaxs_warm_up_and_cosine():
    steps = jnp.array([0, 1, 50, 99, 100, 101, 5000, 9999, 10_000])
    for peak in (0.01, 0.1, 1.0):
        expected = optax.warmup_cosine_decay_schedule(0.0, peak, 100, 10_000, 1e-3)(steps)
        mine = optimizer.learning_rate(steps, jnp.full(steps.shape, peak), 10_000, SETTINGS)
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-9)
    assert float(optimizer.learning_rate(jnp.array([0]), jnp.array([0.1]), 10_000, SETTINGS)[0]) == 0.0


def test_constant_schedule_has_no_warm_up():
    constant = OptimizerSettings(schedule="constant")
    assert optimizer.learning_rate(jnp.array([0, 7]), jnp.array([0.5, 0.25]), 100, constant).tolist() == [
        0.5,
        0.25,
    ]


def test_each_lane_has_its_own_adamw():
    """Lanes that joined at different times against optax.adamw run alone on each of them."""
    peaks, late = (0.1, 1.0), 7  # the second lane sits out the first seven steps
    key = jax.random.key(0)
    mem = jax.random.uniform(key, (2, 1, 8), maxval=0.02)
    grads = jax.random.normal(jax.random.key(1), (30, 2, 1, 8))

    lanes, state, count = mem, optimizer.init(mem, SETTINGS), jnp.zeros(2, jnp.int32)
    for t, grad in enumerate(grads):
        take = jnp.array([True, t >= late])
        rate = optimizer.learning_rate(count, jnp.array(peaks), 200, SETTINGS)
        moved, moved_state = optimizer.update(grad, state, lanes, rate, SETTINGS)
        pick = lambda new, old, take=take: jnp.where(take.reshape(2, *[1] * (new.ndim - 1)), new, old)  # noqa: E731
        lanes, state, count = pick(moved, lanes), jax.tree.map(pick, moved_state, state), count + take

    for lane, peak in enumerate(peaks):
        schedule = optax.warmup_cosine_decay_schedule(0.0, peak, 100, 200, 1e-3)
        adamw = optax.adamw(schedule, b1=0.9, b2=0.9, eps=1e-8, weight_decay=0.01)
        alone, alone_state = mem[lane], adamw.init(mem[lane])
        for grad in grads[late * lane :, lane]:
            updates, alone_state = adamw.update(grad, alone_state, alone)
            alone = optax.apply_updates(alone, updates)
        np.testing.assert_allclose(lanes[lane], alone, rtol=1e-5, atol=1e-6)
