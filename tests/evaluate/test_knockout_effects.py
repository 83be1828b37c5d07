"""Reconstruction and decisions under knockout: against a Llama in plain NumPy, and live against torch."""

from pathlib import Path

import numpy as np
import pytest

from jaxcram import forward
from jaxcram.errors import UserError
from jaxcram.evaluate.accuracy import NORMALIZATIONS
from jaxcram.evaluate.choices import Choices
from jaxcram.evaluate.knockout import sweep
from jaxcram.evaluate.knockout_effects import BASE, Effect, effects, text_effects, tf_accuracies
from jaxcram.evaluate.multiple_choice import score
from jaxcram.models import port
from jaxcram.models.decoder import OwnRowKnockout
from jaxcram.models.llama import LlamaConfig
from tests import plain
from tests.lively import TINY, lively

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
LAYERS, MEMORY, LENGTHS = 3, 2, ((4, 3, 6), (7, 5, 2), (9, 4, 4))
CONDITIONS = sweep(LAYERS)
MEM = np.random.default_rng(4).normal(0, 1, (len(LENGTHS), MEMORY, 32)).astype(np.float32)
OWN_ROW = pytest.mark.parametrize("own_row", [False, True])


@pytest.fixture(scope="module")
def model():
    return lively(LlamaConfig(**TINY | {"num_layers": LAYERS}))


def items(lengths=LENGTHS, vocab_size=40):
    """Items of two endings: tokens of the context and of each ending."""
    rng = np.random.default_rng(3)
    made = []
    for number, (context, *endings) in enumerate(lengths):
        start = rng.integers(0, vocab_size, context).astype(np.int32)
        texts = tuple(np.r_[start, rng.integers(0, vocab_size, n)].astype(np.int32) for n in endings)
        characters = tuple(rng.integers(1, 20, 2).tolist())
        made.append(Choices(10 + number, number % 2, start, texts, (context,) * 2, characters, (1, 1)))
    return made


def expected_effects(logits, choices, conditions):
    """The effects, from `logits(mem_KxD or None, tokens, layers_L)` [N, V] at every position."""
    made = []
    for item, mem_KxD in zip(choices, MEM, strict=True):
        for name, layers_L in zip((BASE, *conditions.names), (None, *conditions.layers_CxL), strict=True):
            memory = None if name == BASE else mem_KxD
            before = 0 if memory is None else MEMORY
            log_probs, tokens = [], []
            for text in item.texts:
                found = np.asarray(logits(memory, text, layers_L), np.float64)
                found -= np.log(np.exp(found).sum(-1, keepdims=True))
                log_probs.append(sum(found[before + i - 1, text[i]] for i in range(1, len(text))))
                tokens.append(len(text) - 1)
            first = None if memory is None else logits(memory, item.context, layers_L).argmax(-1)
            correct = np.nan if memory is None else np.mean(first[before - 1 : -1] == item.context)
            counts = dict(zip(NORMALIZATIONS, ((1, 1), tokens, item.text_characters), strict=True))
            right = {by: np.argmax(np.divide(log_probs, n)) == item.label for by, n in counts.items()}
            made.append(Effect(item.id, name, correct, tuple(log_probs), right))
    return made


def assert_effects(found, expected):
    assert [(one.item, one.condition) for one in found] == [(one.item, one.condition) for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.tf_accuracy, other.tf_accuracy, atol=1e-6)
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-4, rtol=0)
        assert one.right == other.right


@OWN_ROW
def test_effects_are_those_of_plain_numpy(model, own_row):
    """Texts of several lengths share a pass, and padding is no key of a row that sees all of the text."""
    found = effects(model, items(), MEM, CONDITIONS, own_row=own_row)
    expected, other = (
        expected_effects(
            lambda memory, tokens, layers_L, own=own: plain.run(model, memory, tokens, layers_L, own)[0],
            items(),
            CONDITIONS,
        )
        for own in (own_row, not own_row)
    )
    assert_effects(found, expected)
    # The two kinds differ here by far more than the tolerance, in reconstruction too.
    assert np.abs(np.subtract(other[2].log_probs, expected[2].log_probs)).max() > 0.01
    assert [one.tf_accuracy for one in other] != [one.tf_accuracy for one in expected]


@pytest.mark.slow
@OWN_ROW
@pytest.mark.parametrize("case", ["llama_grouped_tied", "gemma_plain", "qwen3_sliding", "neox_parallel"])
def test_effects_are_those_of_torch(case, own_row):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = port.load(PARITY / case, dtype="float32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        PARITY / case, attn_implementation="eager", dtype=torch.float32
    ).eval()
    barred = []

    def hook(number):
        def bar(module, arguments, options):
            mask = options["attention_mask"]
            if mask is not None and barred and barred[0][number]:
                mask = mask.clone()
                mask[:, :, 0 if own_row else MEMORY :, :MEMORY] = torch.finfo(torch.float32).min
            return arguments, options | {"attention_mask": mask}

        return bar

    stack = theirs.gpt_neox.layers if case.startswith("neox") else theirs.model.layers
    for number, layer in enumerate(stack):
        attention = layer.attention if case.startswith("neox") else layer.self_attn
        attention.register_forward_pre_hook(hook(number), with_kwargs=True)

    @torch.no_grad()
    def logits(memory, tokens, layers_L):
        barred[:] = [] if layers_L is None else [layers_L]
        inputs = torch.tensor(np.asarray(model.embed(tokens[None])))  # scaled, as the memory is not
        if memory is not None:
            inputs = torch.cat([torch.tensor(memory)[None], inputs], dim=1)
        return theirs(inputs_embeds=inputs).logits[0].numpy()

    conditions = sweep(model.config.num_layers)
    found = effects(model, items(), MEM, conditions, own_row=own_row)
    assert_effects(found, expected_effects(logits, items(), conditions))
    # Positions are rotations, so a memory that no layer shows only moves the text along.
    base, barred_from_all = ([one for one in found if one.condition == name] for name in (BASE, "all"))
    for one, other in zip(base, barred_from_all, strict=True):
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-4)


@OWN_ROW
@pytest.mark.parametrize("scored", ["memory", "memory_ending"])
def test_effects_go_from_crammed_to_base(model, own_row, scored):
    found = effects(model, items(), MEM, CONDITIONS, scored=scored, own_row=own_row)
    by = {name: [one for one in found if one.condition == name] for name in (BASE, "none", "all")}
    names = {BASE: scored.replace("memory", "base"), "none": scored}
    for name in by:
        expected = score(model, items(), MEM, names=[names[name if name != "all" else BASE]])
        for one, row in zip(by[name], expected, strict=True):
            np.testing.assert_allclose(one.log_probs, row.log_probs, atol=1e-4, rtol=0)
    crammed = tf_accuracies(model, [item.context for item in items()], MEM, np.zeros((1, LAYERS), bool))
    np.testing.assert_array_equal([one.tf_accuracy for one in by["none"]], crammed[0])


@OWN_ROW
def test_the_order_of_items_changes_no_bit(model, own_row):
    order = [2, 0, 1]
    found = effects(model, items(), MEM, CONDITIONS, own_row=own_row)
    moved = effects(model, [items()[i] for i in order], MEM[order], CONDITIONS, own_row=own_row)
    by_id = sorted(moved, key=lambda one: one.item)
    assert [one._replace(tf_accuracy=0) for one in by_id] == [one._replace(tf_accuracy=0) for one in found]
    np.testing.assert_array_equal([one.tf_accuracy for one in by_id], [one.tf_accuracy for one in found])


def test_the_size_of_batches_changes_no_decision(model):
    knockout, contexts = CONDITIONS.layers_CxL, [item.context for item in items()]
    scores = score(model, items(), MEM, knockout_CxL=knockout)
    tf_CxI = tf_accuracies(model, contexts, MEM, knockout)
    for batch_tokens in (16, 64, 4096):
        others = score(model, items(), MEM, knockout_CxL=knockout, batch_tokens=batch_tokens)
        for row, other in zip(scores, others, strict=True):
            np.testing.assert_allclose(row.log_probs, other.log_probs, atol=1e-5, rtol=0)
            assert np.argmax(row.log_probs) == np.argmax(other.log_probs)
        again = tf_accuracies(model, contexts, MEM, knockout, batch_tokens=batch_tokens)
        np.testing.assert_array_equal(again, tf_CxI)


def test_texts_have_the_reconstruction_of_items(model):
    targets = {item.id: item.context for item in items()}
    found = text_effects(model, targets, MEM, CONDITIONS)
    of_items = [one for one in effects(model, items(), MEM, CONDITIONS) if one.condition != BASE]
    assert found == [Effect(one.item, one.condition, one.tf_accuracy) for one in of_items]


def compiled():
    return forward._compared_under._cache_size()


def test_conditions_are_one_trace_for_each_padded_shape(model):
    """Eight items of one length, more of them than a pass has rows, under any four conditions."""
    choices, mem = items([(5, 3, 3)] * 8), np.repeat(MEM[:1], 8, axis=0)
    before = compiled()
    effects(model, choices, mem, sweep(LAYERS, ["forward"]))
    assert compiled() == before + 2  # contexts, and texts
    for sets in (["0", "1", "2"], ["0,2", "1-2", "0-1"]):
        effects(model, choices, mem, sweep(LAYERS, [], sets))
    assert compiled() == before + 2


def test_a_score_that_does_not_read_memory_and_context_is_refused(model):
    with pytest.raises(UserError, match="scored=base must be one of memory, memory_ending, memory_edge"):
        effects(model, items(), MEM, CONDITIONS, scored="base")


@pytest.mark.parametrize("num_memory", [1, 2])
def test_without_lengths_a_barred_row_sees_all_positions(model, num_memory):
    """One text without padding, in which the barred rows see its last token too."""
    text, mem, layers_L = items()[0].texts[0], MEM[0, :num_memory], np.array([True, False, False])
    knockout = OwnRowKnockout(layers_L[None])
    found = forward.token_nll(model, mem[None], text[None], knockout_SxL=knockout)
    expected = plain.nlls(model, mem, text, layers_L, own_row=True)
    np.testing.assert_allclose(found[0], expected, atol=1e-4, rtol=0)
    text[-1] = (text[-1] + 1) % 48
    other = forward.token_nll(model, mem[None], text[None], knockout_SxL=knockout)
    assert np.abs(other[0, :-1] - found[0, :-1]).max() > 1e-4
