import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcram.cram.objective import score
from jaxcram.cram.settings import Objective
from jaxcram.errors import UserError
from jaxcram.models import head

B, T, D, V = 3, 5, 16, 40


def inputs(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    head_VxD = jax.random.normal(keys[0], (V, D))
    hidden_BxTxD = jax.random.normal(keys[1], (B, T, D))
    return head.Head(head_VxD), hidden_BxTxD, jax.random.randint(keys[2], (B, T), 0, V)


def cross_entropy(logits, targets, temperature, squared):
    loss = optax.softmax_cross_entropy_with_integer_labels(logits / temperature, targets)
    return loss * temperature**2 if squared else loss


def hinge(logits, targets, margin):
    true = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    others = jnp.where(jax.nn.one_hot(targets, logits.shape[-1], dtype=bool), -jnp.inf, logits)
    return jnp.maximum(0.0, margin + others.max(-1) - true)


REFERENCES = [
    (Objective(), lambda logits, targets: cross_entropy(logits, targets, 1.0, False)),
    (Objective(temperature=0.25), lambda logits, targets: cross_entropy(logits, targets, 0.25, False)),
    (
        Objective(temperature=0.25, temperature_squared=True),
        lambda logits, targets: cross_entropy(logits, targets, 0.25, True),
    ),
    (Objective(loss="hinge", margin=0.5), lambda logits, targets: hinge(logits, targets, 0.5)),
]


@pytest.mark.optimised
@pytest.mark.parametrize("cap", [None, 4.0])
@pytest.mark.parametrize(("objective", "reference"), REFERENCES)
def test_losses_and_gradients_equal_those_of_optax_and_autodiff(objective, reference, cap):
    plain, hidden, targets = inputs()
    scores, grad = score(head.Head(plain.weight, cap), hidden, targets, objective)

    def logits_of(hidden):
        logits = hidden @ plain.weight.T
        return logits if cap is None else cap * jnp.tanh(logits / cap)

    logits = logits_of(hidden)
    np.testing.assert_allclose(scores.loss, reference(logits, targets), atol=2e-5)
    expected = jax.grad(lambda hidden: reference(logits_of(hidden), targets).sum())(hidden)
    np.testing.assert_allclose(grad, expected, atol=2e-5)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    np.testing.assert_allclose(scores.nll, nll, atol=2e-5)


def test_correct_means_strictly_largest_logit():
    hidden = jnp.array([[[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 1.0]]])
    scores, _ = score(head.Head(jnp.eye(4)), hidden, jnp.array([[0, 1, 3]]), Objective())
    assert scores.correct.tolist() == [[True, False, False]]  # the second is a tie


def test_nan_is_never_correct():
    scores, _ = score(head.Head(jnp.eye(4)), jnp.full((1, 1, 4), jnp.nan), jnp.array([[0]]), Objective())
    assert not scores.correct[0, 0]


def test_chunking_tokens_does_not_change_results(monkeypatch):
    arguments = (*inputs(1), Objective())
    whole, whole_grad = score(*arguments)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 4 * V)  # 4 tokens a chunk: 15 tokens are padded to 16
    chunked, chunked_grad = score(*arguments)
    for one, other in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(whole_grad, chunked_grad, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": "mse"}, "loss 'mse' is unknown: choose one of cross_entropy, hinge"),
        ({"temperature": 0.0}, "temperature 0.0 must be greater than 0"),
        ({"loss": "hinge", "margin": -1.0}, "margin -1.0 must be 0 or greater"),
    ],
)
def test_bad_settings(wrong, message):
    with pytest.raises(UserError) as error:
        Objective(**wrong)
    assert str(error.value) == message
