"""The timed reference against the procedure written down once more, one sample and one step at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from transformers import (  # noqa: E402
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    get_cosine_with_min_lr_schedule_with_warmup,
)

from common import torch_reference as reference  # noqa: E402

pytestmark = pytest.mark.slow

SETTINGS = reference.Settings(
    learning_rate=0.3, min_learning_rate=0.01, warmup_steps=5, max_steps=60, max_steps_per_token=40
)
LENGTHS = (6, 3, 6, 1, 6, 2, 6)
WIDTH, VOCABULARY = 32, 5


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A model this small is fastest so, and does not fight with neighbours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
    "attn_implementation": "sdpa",
}


@pytest.fixture(scope="module")
def model():
    """Float64, so that the batch and the single sample do not part ways by rounding."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    targets = [rng.integers(0, VOCABULARY, length) for length in LENGTHS]
    return targets, rng.uniform(0, 0.02, (len(LENGTHS), 1, WIDTH))


def one_sample(model, target, init_KxD):
    """(horizon, steps of each stage) by torch's own AdamW and transformers' own schedule."""
    memory = torch.tensor(init_KxD[None], requires_grad=True)
    optimizer = torch.optim.AdamW(
        [memory], lr=SETTINGS.learning_rate, betas=(0.9, 0.9), eps=1e-8, weight_decay=0.01
    )
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, SETTINGS.warmup_steps, SETTINGS.max_steps, min_lr=SETTINGS.min_learning_rate
    )
    tokens = torch.tensor(target)
    horizon, stage_steps, total = 0, [], 0
    for n in range(1, len(tokens) + 1):
        steps = 0
        while True:
            inputs = torch.cat([memory, model.model.embed_tokens(tokens[None, : n - 1])], dim=1)
            logits = model(inputs_embeds=inputs).logits[0, -n:]
            if torch.equal(logits.argmax(-1), tokens[:n]):
                break
            if steps == SETTINGS.max_steps_per_token or total == SETTINGS.max_steps:
                return horizon, [*stage_steps, steps]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, tokens[:n]).backward()
            optimizer.step()
            schedule.step()
            steps, total = steps + 1, total + 1
        horizon = n
        stage_steps.append(steps)
    return horizon, stage_steps


@pytest.fixture(scope="module")
def alone(model, problem):
    return [one_sample(model, target, init) for target, init in zip(*problem, strict=True)]


def test_the_problem_holds_every_ending(alone):
    """Some samples reach the end of their text, some spend a stage, and one spends its steps in all."""
    complete = [horizon == length for (horizon, _), length in zip(alone, LENGTHS, strict=True)]
    assert any(done and length > 1 for done, length in zip(complete, LENGTHS, strict=True))
    failed = [steps for (_, steps), done in zip(alone, complete, strict=True) if not done]
    assert any(steps[-1] == SETTINGS.max_steps_per_token for steps in failed)
    assert any(sum(steps) == SETTINGS.max_steps for steps in failed)
    assert len({horizon for horizon, _ in alone}) > 2


@pytest.mark.parametrize("batch_size", [len(LENGTHS), 3, 1])
def test_horizons_and_steps_are_those_of_one_sample_alone(model, problem, alone, batch_size):
    outcome = reference.cram(model, *problem, SETTINGS, batch_size=batch_size)
    assert list(zip(outcome.horizons, outcome.stage_steps, strict=True)) == alone
    assert outcome.lane_steps == sum(sum(steps) for _, steps in alone)


def test_scaled_embeddings_and_sliding_windows_are_the_models_business(problem):
    """Gemma-3: the memory enters unscaled, the text's embeddings as the model scales them."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        **SHAPE | {"initializer_range": 0.3},
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=3,
        layer_types=["sliding_attention", "full_attention"],
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    gemma = Gemma3ForCausalLM(config).double().eval().requires_grad_(False)
    alone = [one_sample(gemma, target, init) for target, init in zip(*problem, strict=True)]
    assert {1, 3} <= {horizon for horizon, _ in alone}
    outcome = reference.cram(gemma, *problem, SETTINGS, batch_size=4)
    assert list(zip(outcome.horizons, outcome.stage_steps, strict=True)) == alone
    ids = torch.tensor([[1, 4, 0, 2]])
    batch = reference.start_batch(gemma, ids.numpy(), np.zeros((1, 1, WIDTH)))
    # A memory that is the scaled embedding of token 1 stands for that token.
    memory = gemma.get_input_embeddings()(ids[:, :1])
    batch.inputs = gemma.get_input_embeddings()(ids[:, 1:])
    torch.testing.assert_close(reference.forward(gemma, batch, 4, memory), gemma(input_ids=ids).logits)


def test_useful_tokens_are_those_of_the_prefixes_that_stepped(model, problem, alone):
    outcome = reference.cram(model, *problem, SETTINGS, batch_size=3)
    of_samples = [np.dot(steps, 1 + np.arange(len(steps))) for _, steps in alone]
    assert outcome.useful_tokens == sum(of_samples) < outcome.tokens


def test_a_batch_waits_for_its_slowest_sample(model, problem, alone):
    """Passes and the rows they pay for follow from the steps of each sample: lock-step, and nothing more."""
    outcome = reference.cram(model, *problem, SETTINGS, batch_size=len(LENGTHS))
    passes = lane_passes = tokens = 0
    for stage in range(max(len(steps) for _, steps in alone)):
        steps = {row: counts[stage] for row, (_, counts) in enumerate(alone) if len(counts) > stage}
        failed = {row for row in steps if alone[row][0] == stage}
        # A stage measures once more than its slowest sample steps; whoever fails leaves the batch at once.
        last = max(steps.values()) + 1
        rows = sum(steps[row] + 1 if row in failed else last for row in steps)
        passes, lane_passes, tokens = passes + last, lane_passes + rows, tokens + rows * (stage + 1)
    assert (outcome.passes, outcome.lane_passes, outcome.tokens) == (passes, lane_passes, tokens)


def test_several_memories_precede_the_text(model):
    """With K = 3, target token i is predicted at position 2 + i, whatever stands after it."""
    target = np.array([1, 4, 0, 2, 3])
    memory_1xKxD = np.random.default_rng(1).normal(0, 1, (1, 3, WIDTH))
    batch = reference.start_batch(model, [target], memory_1xKxD)
    memory = torch.tensor(memory_1xKxD)
    whole = torch.cat([memory, model.model.embed_tokens(torch.tensor(target)[None])], dim=1)
    expected = model(inputs_embeds=whole).logits[:, 2:6]
    torch.testing.assert_close(reference.forward(model, batch, 4, memory), expected, rtol=1e-9, atol=1e-9)


def test_nothing_but_the_memory_learns(model, problem):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    targets, init_NxKxD = problem
    start = init_NxKxD.copy()
    reference.cram(model, targets, init_NxKxD, SETTINGS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(init_NxKxD, start)
    assert all(parameter.grad is None for parameter in model.parameters())
