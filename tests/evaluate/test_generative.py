"""Generated answers: prompts, letters, and generation against a loop without a cache and transformers."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from jaxcram import decode
from jaxcram.errors import UserError
from jaxcram.evaluate.generative import Answer, Prompt, encode_prompts, generate, random_memory
from jaxcram.evaluate.settings import MODES
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.evaluate.tasks.task import Item
from jaxcram.forward import predict
from jaxcram.models import port
from jaxcram.text.tokenizer import Tokenizer, load_tokenizer
from tests.cram.conftest import tiny  # noqa: F401
from tests.evaluate.test_choices import tokenizer as bytes_tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity"
CHARACTERS = " \n.:?ABCDabcdefghijklmnopqrstuvwxyzTQS"


def characters():
    """A tokenizer of 40 characters, which small models can write."""
    vocab = {"<s>": 0, "</s>": 1} | {character: i for i, character in enumerate(CHARACTERS, start=2)}
    backend = Backend(models.BPE(vocab=vocab, merges=[]))
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend, name="test", bos_token="<s>", eos_token="</s>")


# Prompts


@pytest.fixture
def mmlu(tmp_path):
    """Three items of two subjects, and two shots of each."""

    def row(subject, question, answer):
        choices = [f"{question[0]}{number}" for number in range(4)]
        return {"subject": subject, "question": question, "choices": choices, "answer": answer}

    tables = {
        "dev": [row(s, f"{s[0]}{i}?", i) for s in ("us_history", "law") for i in range(2)],
        "test": [row("law", "One?", 3), row("us_history", "Two?", 1), row("law", "Six?", 0)],
    }
    for name, rows in tables.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data, shots = (tmp_path / f"{name}.jsonl" for name in ("test", "dev"))
    return load_items(find_task("mmlu"), data=data, shots_data=shots, num_shots=2)


LAW = """The following are multiple choice questions (with answers) about law.

l0?
A. l0
B. l1
C. l2
D. l3
Answer: A

l1?
A. l0
B. l1
C. l2
D. l3
Answer: B"""
ONE = "One?\nA. O0\nB. O1\nC. O2\nD. O3\nAnswer:"


def texts(found, tokenizer):
    crams = [(sample.sample_id, sample.text, tokenizer.decode(sample.tokens)) for sample in found.crams]
    return crams, [(p.item.id, p.mode, p.cram, tokenizer.decode(p.tokens)) for p in found.prompts]


def prompts_of(items, mode, bos=True):
    tokenizer = bytes_tokenizer(bos=bos)
    return texts(encode_prompts(items, mode, tokenizer, max_positions=1000), tokenizer)


def test_the_shots_of_a_subject_are_crammed_once(mmlu):
    """With the row of the first shot as their id, whichever items are asked."""
    crams, prompts = prompts_of(mmlu, "few_shot")
    history = LAW.replace("law.", "us history.").replace("l0", "u0").replace("l1", "u1")
    history = history.replace("l2", "u2").replace("l3", "u3")
    assert crams == [(2, LAW, "<s>" + LAW), (0, history, "<s>" + history)]
    assert prompts == [
        (0, "few_shot", 2, "\n\n" + ONE),
        (1, "few_shot", 0, "\n\n" + ONE.replace("One", "Two").replace("O", "T")),
        (2, "few_shot", 2, "\n\n" + ONE.replace("One", "Six").replace("O", "S")),
    ]


def test_shots_and_question_are_crammed_and_no_text_is_left(mmlu):
    crams, prompts = prompts_of(mmlu[:1], "full_prefix")
    assert crams == [(0, f"{LAW}\n\n{ONE}", f"<s>{LAW}\n\n{ONE}")]
    assert prompts == [(0, "full_prefix", 0, "")]
    assert [sample_id for sample_id, *_ in prompts_of(mmlu, "full_prefix")[0]] == [0, 1, 2]


def test_prompts_are_those_of_transformers(mmlu):
    """Texts written out here, in the tokens of another implementation."""
    from transformers import AutoTokenizer

    directory = port.bundled_model()
    ours, theirs = load_tokenizer(directory), AutoTokenizer.from_pretrained(directory)
    whole = theirs(f"{LAW}\n\n{ONE}")["input_ids"]
    crammed = theirs(LAW)["input_ids"]
    found = {mode: encode_prompts(mmlu[:1], mode, ours, max_positions=1000) for mode in ("none", *MODES)}
    for mode, text in {"none": whole, "few_shot": whole[len(crammed) :], "full_prefix": []}.items():
        (prompt,) = found[mode].prompts
        assert prompt.tokens.tolist() == text
    for mode, tokens in {"few_shot": crammed, "full_prefix": whole}.items():
        (sample,) = found[mode].crams
        assert sample.tokens.tolist() == tokens


def test_nothing_is_crammed_for_the_others(mmlu):
    assert prompts_of(mmlu[:1], "random") == ([], [(0, "random", None, "\n\n" + ONE)])
    assert prompts_of(mmlu[:1], "none") == ([], [(0, "none", None, f"<s>{LAW}\n\n{ONE}")])


def test_shots_and_question_are_encoded_together():
    """A token that begins in the shots and ends in the question is the shots', as many as they have alone."""
    merging = bytes_tokenizer("b+c")
    items = [Item(3, "cd", tuple("ABCD"), 0, shots="ab")]
    crams, prompts = texts(encode_prompts(items, "few_shot", merging, max_positions=64), merging)
    assert (crams, prompts) == ([(3, "ab", "ab")], [(3, "few_shot", 3, "d")])


def test_prompts_that_cannot_be(mmlu):
    tokenizer = bytes_tokenizer()
    bare = [Item(4, "a?", tuple("ABCD"), 0)]
    with pytest.raises(
        UserError, match="generative=one_shot: no such mode; choose one of few_shot, full_pre"
    ):
        encode_prompts(mmlu, "one_shot", tokenizer, max_positions=1000)
    with pytest.raises(UserError, match="item 4: it has no shots, which generative=none reads; give num_sh"):
        encode_prompts(bare, "none", tokenizer, max_positions=1000)
    # Shots of 4 tokens, a question of 3, and 5 new ones.
    short = [Item(4, " a?", tuple("ABCD"), 0, shots="abcd")]
    for mode, least in {"few_shot": 9, "random": 9, "none": 11, "full_prefix": 8}.items():
        encode_prompts(short, mode, tokenizer, max_positions=least, num_memory=2)
        with pytest.raises(
            UserError, match=rf"item 4: \d+ tokens after [02] memory .* the model has {least - 1}"
        ):
            encode_prompts(short, mode, tokenizer, max_positions=least - 1, num_memory=2)


# Letters


@pytest.mark.parametrize(
    ("text", "letter", "right"),
    [
        (" B", "B", True),
        (" C\n\nB", "C", False),
        ("\n\nThe answer: B", "B", True),
        ("Because A", "B", True),
        (" b, of course", None, False),
        ("E or F", None, False),
        ("", None, False),
    ],
)
def test_the_first_letter_is_the_answer(text, letter, right):
    prompt = Prompt(Item(0, "q", tuple("ABCD"), 1), "few_shot", None, np.zeros(0, np.int32))
    found = Answer.read(prompt, text)
    assert (found.text, found.letter, found.right, found.valid) == (text, letter, right, letter is not None)


# Generation


ITEMS = 18  # a pass has three


def questions(number=ITEMS):
    """Items of different lengths; their shots are two texts."""
    rng = np.random.default_rng(0)

    def words(least, most):
        return "".join(rng.choice(list(CHARACTERS[9:35]), rng.integers(least, most)))

    shots = [f"{words(5, 9)} B\n\n" for _ in range(2)]
    return [
        Item(i, f"{words(1, 8)}?\nA:", tuple("ABCD"), i % 4, subject=str(i % 2), shots=shots[i % 2])
        for i in range(number)
    ]


def prompts_with(mode, model, num_memory=2):
    """Prompts in a mode, and memory, which is not crammed here."""
    tokenizer, room = characters(), model.config.max_positions
    prompts = encode_prompts(questions(), mode, tokenizer, max_positions=room, num_memory=num_memory).prompts
    shape = (len(prompts), num_memory, model.config.width)
    return prompts, None if mode == "none" else np.random.default_rng(1).normal(0, 1, shape).astype(
        np.float32
    )


@jax.jit
def argmaxes(model, mem, tokens):
    return jnp.argmax(model.logits(predict(model, mem, tokens)), axis=-1)


def without_cache(model, prompt, mem_KxD):
    """Five tokens, each from a whole forward pass over memory, text and tokens so far."""
    mem, tokens = None if mem_KxD is None else mem_KxD[None], prompt.tokens.tolist()
    for _ in range(5):
        padded = np.zeros((1, 60), np.int32)
        padded[0, : len(tokens)] = tokens
        # Entry i predicts token i; of the text alone, token i + 1.
        tokens.append(int(argmaxes(model, mem, padded)[0, len(tokens) - (mem is None)]))
    return tokens[-5:]


def cut(tokens, model):
    ends = [i for i, token in enumerate(tokens) if token in model.config.eos_token_ids]
    return characters().decode(tokens[: ends[0] if ends else None])


@pytest.mark.parametrize("mode", MODES)
def test_answers_are_those_of_a_loop_without_a_cache(tiny, mode):  # noqa: F811
    prompts, mem = prompts_with(mode, tiny)
    found = generate(tiny, characters(), prompts, mem)
    alone = [without_cache(tiny, p, None if mem is None else mem[i]) for i, p in enumerate(prompts)]
    assert [one.text for one in found] == [cut(tokens, tiny) for tokens in alone]
    assert [(one.item, one.mode, one.label, one.subject) for one in found] == [
        (i, mode, i % 4, str(i % 2)) for i in range(ITEMS)
    ]
    assert len({one.text for one in found}) > 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_neither_order_nor_batch_changes_an_answer(tiny, mode):  # noqa: F811
    prompts, mem = prompts_with(mode, tiny)
    found = generate(tiny, characters(), prompts, mem)
    order = np.random.default_rng(2).permutation(ITEMS).tolist()
    moved = generate(tiny, characters(), [prompts[i] for i in order], None if mem is None else mem[order])
    assert [moved[order.index(i)] for i in range(ITEMS)] == found
    assert generate(tiny, characters(), prompts, mem, batch_tokens=1) == found  # one by one


def test_each_padded_shape_is_traced_once(tiny):  # noqa: F811
    """Texts of 1 to 8 tokens are one shape, those of 9 to 16 another."""
    prompts = [
        Prompt(item, "random", None, np.full(length, 5, np.int32))
        for item, length in zip(questions(16), (0, 1, 2, 3, 5, 6, 7, 8) + (9, 10, 11, 12) * 2, strict=True)
    ]
    mem = random_memory(tiny, prompts, 3)
    before = decode._continued._cache_size()
    for _ in range(2):
        generate(tiny, characters(), prompts, mem)
        assert decode._continued._cache_size() == before + 2
        prompts, mem = prompts[::-1], mem[::-1] + 1


def test_an_end_token_ends_the_text(tiny):  # noqa: F811
    prompts, mem = prompts_with("few_shot", tiny)
    graph, state = nnx.split(tiny)
    first = without_cache(tiny, prompts[0], mem[0])
    other = nnx.merge(graph, state)
    other.config = dataclasses.replace(tiny.config, eos_token_ids=(first[2],))
    found = generate(other, characters(), prompts[:1], mem[:1])[0]
    assert found.text == characters().decode(first[: first.index(first[2])])


def test_random_memory_is_normal_with_the_spread_of_token_embeddings(tiny):  # noqa: F811
    prompts = [Prompt(item, "random", None, np.zeros(1, np.int32)) for item in questions(200)]
    mem = random_memory(tiny, prompts, 2)
    assert (mem.shape, mem.dtype) == ((200, 2, 32), np.float32)
    std = np.std(np.asarray(tiny.embedding_VxD[...]))
    np.testing.assert_allclose([mem.mean(), mem.std()], [0, std], atol=std / 25)
    np.testing.assert_array_equal(random_memory(tiny, prompts[7:9], 2), mem[7:9])
    assert not np.array_equal(random_memory(tiny, prompts[7:8], 2, seed=1), mem[7:8])


def test_what_cannot_be_generated(tiny):  # noqa: F811
    prompts, mem = prompts_with("few_shot", tiny)
    with pytest.raises(
        UserError, match="item 0 in mode few_shot: a logit after its text is not finite; the model is damaged"
    ):
        generate(tiny, characters(), prompts[:1], np.full_like(mem[:1], np.nan))
    with pytest.raises(ValueError, match="mode few_shot without memory"):
        generate(tiny, characters(), prompts)
    with pytest.raises(UserError, match="item 0"):
        generate(tiny, characters(), [Prompt(questions(1)[0], "none", None, np.array([48], np.int32))])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama_grouped_tied", "gemma_plain", "neox_tied", "smollm3_sliding"])
@pytest.mark.parametrize("mode", MODES)
def test_answers_are_those_of_transformers(name, mode):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = port.load(FIXTURES / name, dtype="float32")
    reference = transformers.AutoModelForCausalLM.from_pretrained(FIXTURES / name, dtype=torch.float32).eval()
    prompts, mem = prompts_with(mode, model)
    expected = []
    for number, prompt in enumerate(prompts):
        inputs = reference.get_input_embeddings()(torch.tensor(prompt.tokens[None], dtype=torch.int64))
        if mem is not None:
            inputs = torch.cat([torch.tensor(mem[number : number + 1]), inputs], dim=1)
        new = reference.generate(inputs_embeds=inputs, max_new_tokens=5, do_sample=False, eos_token_id=None)
        expected.append(cut(new[0].tolist(), model))
    found = generate(model, characters(), prompts, mem)
    assert [one.text for one in found] == expected
    assert [one.letter for one in found] == [next((c for c in t if c in "ABCD"), None) for t in expected]
    assert len(set(expected)) > 3
