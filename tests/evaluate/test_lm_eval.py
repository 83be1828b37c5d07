"""The decoder as lm-evaluation-harness sees it: against its own model, and after an embedding."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.models.llama import LlamaConfig
from jaxcram.text.tokens import Tokenizer, load_tokenizer
from tests import plain
from tests.lively import TINY, lively

POSITIONS = 40
PAIRS = [
    ("Once upon a time, there was a", " little girl named Lily."),
    ("Once upon a time, there was a ", "little girl."),
    ("The dog", "gy ran away"),  # the border is inside what would be one word
    ("", "Tom had a red ball."),
    ("\n", "He was happy."),
    ("She said", " no"),
]
MEM = np.random.default_rng(0).normal(0, 1, (2, 32)).astype(np.float32)


def test_without_the_package_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['lm_eval'] = None\n"
        "try:\n    import jaxcram.evaluate.lm_eval\nexcept Exception as error:\n    print(repr(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message = "jaxcram.evaluate.lm_eval: the package lm_eval is not installed; pip install 'jaxcram[bench]'"
    assert done.stdout == f"{UserError(message)!r}\n"


@pytest.fixture(scope="module")
def lm_eval():
    pytest.importorskip("lm_eval")
    from jaxcram.evaluate import lm_eval

    return lm_eval


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(port.bundled_model())


@pytest.fixture(scope="module")
def model(tokenizer):
    """With weights that say something after any memory, and few positions."""
    return lively(LlamaConfig(**TINY | {"vocab_size": tokenizer.vocab_size, "max_positions": POSITIONS}))


def requests(*arguments):
    return [SimpleNamespace(args=args) for args in arguments]


def greedy(model, mem_KxD, tokens, first):
    """Whether plain NumPy says the tokens from `first` on."""
    logits, _ = plain.run(model, mem_KxD, tokens)
    num_memory = len(logits) - len(tokens)
    return [int(logits[num_memory + i - 1].argmax()) for i in range(first, len(tokens))] == tokens[first:]


@pytest.mark.parametrize("knocked", [None, [0], [0, 1]])
@pytest.mark.parametrize("num_memory", [0, 1, 2])
def test_a_memory_shifts_the_logits_by_its_length(lm_eval, model, tokenizer, num_memory, knocked):
    """Harness PR 533: after K embeddings, position K + i - 1 predicts token i."""
    mem = MEM[:num_memory] if num_memory else None
    layers = None if knocked is None else np.isin(np.arange(2), knocked)
    if mem is None and layers is not None:
        with pytest.raises(UserError, match="knockout: without an embedding there is nothing to knock out"):
            lm_eval.CrammedLM(model, tokenizer, knockout=layers)
        return
    lm = lm_eval.CrammedLM(model, tokenizer, mem, knockout=layers)
    context, continuation = PAIRS[0]
    tokens, first = tokenizer.encode(context + continuation), len(tokenizer.encode(context))
    nlls = plain.nlls(model, mem, tokens, layers)
    nlls = nlls if mem is not None else np.r_[0, nlls]
    ((log_prob, _),) = lm.loglikelihood(requests((context, continuation)))
    assert log_prob == pytest.approx(-nlls[first:].sum(), abs=1e-4)
    # The same logits read without the shift are far off.
    if mem is not None and layers is None:
        logits, _ = plain.run(model, mem, tokens)
        logits = logits[: len(tokens) - 1]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        wrong = log_p[np.arange(len(log_p)), tokens[1:]][first - 1 :].sum()
        assert abs(wrong - log_prob) > 0.1


@pytest.mark.parametrize("num_memory", [1, 2, 5])
def test_embeddings_of_tokens_are_a_memory_that_says_what_the_tokens_say(
    lm_eval, model, tokenizer, num_memory
):
    first = tokenizer.encode("Once upon a time, there was", bos=False)[:num_memory]
    mem = np.asarray(model.embedding_VxD[...], np.float32)[first]
    after = lm_eval.CrammedLM(model, tokenizer, mem, bos=False)
    alone = lm_eval.CrammedLM(model, tokenizer, bos=False)
    context, rest, continuation = tokenizer.decode(first), " a dog", " who ran"
    assert tokenizer.encode(context + rest, bos=False) == first + tokenizer.encode(rest, bos=False)
    (ours,), (theirs,) = (
        lm.loglikelihood(requests((text, continuation)))
        for lm, text in ((after, rest), (alone, context + rest))
    )
    assert ours == (pytest.approx(theirs[0], abs=1e-5), theirs[1])
    if num_memory == 2:
        options = {"max_gen_toks": 4}
        said = alone.generate_until(requests((context + rest, options)))
        assert after.generate_until(requests((rest, options))) == said


@pytest.mark.parametrize(
    ("context", "continuation", "scored"),
    [
        ("ab", " cd", [" ", "c", "d"]),
        ("ab ", "cd", [" ", "c", "d"]),  # the space moves to the continuation
        ("ab \n", " c", [" ", "\n", " ", "c"]),
        ("ah", "ib", ["b"]),  # a merge across the border: as many tokens are the context's as alone
        ("ah", "i", ["hi"]),  # ... of which the continuation keeps one
        ("h", "i", ["hi"]),
        ("", "cd", ["c", "d"]),
        ("<s>ab", "c", ["c"]),  # BOS that is spelt out
    ],
)
def test_where_a_continuation_begins(lm_eval, context, continuation, scored):
    vocab = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))} | {"hi": 256}
    backend = Backend(models.BPE(vocab=vocab | {"<s>": 257}, merges=[("h", "i")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 257)])
    tokens = Tokenizer(backend, name="bytes", bos_token="<s>", eos_token=None)
    decoder = lively(LlamaConfig(**TINY | {"vocab_size": 258}))
    whole = tokens.encode((context + continuation).removeprefix("<s>"))
    nlls = plain.nlls(decoder, MEM, np.asarray(whole))[-len(scored) :]
    assert [tokens.decode([token]) for token in whole[-len(scored) :]] == scored
    ((log_prob, _),) = lm_eval.CrammedLM(decoder, tokens, MEM).loglikelihood(
        requests((context, continuation))
    )
    assert log_prob == pytest.approx(-nlls.sum(), abs=1e-4)


def test_knocked_out_everywhere_it_is_the_model_alone(lm_eval, model, tokenizer):
    asked = requests(*PAIRS)
    alone = lm_eval.CrammedLM(model, tokenizer).loglikelihood(asked)
    barred = lm_eval.CrammedLM(model, tokenizer, MEM, knockout="all").loglikelihood(asked)
    crammed = lm_eval.CrammedLM(model, tokenizer, MEM).loglikelihood(asked)
    np.testing.assert_allclose([x for x, _ in barred], [x for x, _ in alone], atol=1e-4)
    assert [x for _, x in barred] == [x for _, x in alone]
    assert min(abs(x - y) for (x, _), (y, _) in zip(crammed, alone, strict=True)) > 1e-3


def test_what_greedy_decoding_says_is_greedy(lm_eval, model, tokenizer):
    """A continuation that was generated, and the same with another end."""
    lm = lm_eval.CrammedLM(model, tokenizer, MEM)
    context = PAIRS[0][0]
    start = tokenizer.encode(context)
    tokens = list(start)
    for _ in range(5):
        logits, _ = plain.run(model, MEM, tokens)
        tokens.append(int(logits[-1].argmax()))
    text = tokenizer.decode(tokens)
    continuation = text[len(tokenizer.decode(start)) :]
    (said,) = lm.generate_until(requests((context, {"max_gen_toks": 5})))
    assert said == tokenizer.decode(tokens[len(start) :])
    for ending in (continuation, continuation[:-1] + "!"):
        again = tokenizer.encode(context + ending)
        ((_, is_greedy),) = lm.loglikelihood(requests((context, ending)))
        assert is_greedy == greedy(model, MEM, again, len(start))


@pytest.mark.parametrize("bos", [True, False])
def test_what_is_cut_from_the_left_is_not_bos(lm_eval, model, tokenizer, bos):
    context, continuation = "The cat sat on the mat and looked at the big red ball. " * 4, "She was happy."
    lm = lm_eval.CrammedLM(model, tokenizer, MEM, bos=bos)
    ((log_prob, _),) = lm.loglikelihood(requests((context, continuation)))
    tokens = tokenizer.encode(context + continuation, bos=bos)
    room = POSITIONS - len(MEM) + 1
    kept = [tokenizer.bos_id, *tokens[-(room - 1) :]] if bos else tokens[-room:]
    scored = len(tokens) - len(tokenizer.encode(context.rstrip(), bos=bos))
    assert len(tokens) > len(kept) == room
    assert log_prob == pytest.approx(-plain.nlls(model, MEM, kept)[-scored:].sum(), abs=1e-4)
    # And of a context that is continued.
    room = POSITIONS - len(MEM) - 4 + 1
    (said,) = lm.generate_until(requests((context, {"max_gen_toks": 4})))
    tokens = tokenizer.encode(context, bos=bos)
    kept = [tokenizer.bos_id, *tokens[-(room - 1) :]] if bos else tokens[-room:]
    for _ in range(4):
        kept.append(int(plain.run(model, MEM, kept)[0][-1].argmax()))
    assert said == tokenizer.decode(kept[-4:])


def test_a_whole_text_is_scored_in_windows(lm_eval, model, tokenizer):
    """As the harness cuts them: BOS before the first, and the memory before each."""
    text = "The cat sat on the mat and looked at the big red ball. " * 4
    tokens = tokenizer.encode(text, bos=False)
    room = POSITIONS - len(MEM)
    expected, start = 0.0, 0
    while start < len(tokens):
        end = min(start + room, len(tokens))
        window = [tokenizer.bos_id, *tokens][max(0, end - room) : end + 1]
        expected -= plain.nlls(model, MEM, window)[-(end - start) :].sum()
        start = end
    found = lm_eval.CrammedLM(model, tokenizer, MEM).loglikelihood_rolling(requests((text,), ("",)))
    assert found == pytest.approx([expected, 0.0], abs=1e-3)


def test_a_text_ends_before_its_first_stop(lm_eval, model, tokenizer):
    lm = lm_eval.CrammedLM(model, tokenizer, MEM)
    context = PAIRS[0][0]
    whole, short = lm.generate_until(
        requests((context, {"max_gen_toks": 8}), (context, {"max_gen_toks": 4, "until": []}))
    )
    assert whole.startswith(short)
    assert len(whole) > len(short)
    stop = whole[3]
    options = {"max_gen_toks": 8, "until": ["\u2603", "", stop]}
    assert lm.generate_until(requests((context, options))) == [whole.split(stop)[0]]
    assert lm.generate_until(requests((context, {"max_gen_toks": 8, "until": stop}))) == [
        whole.split(stop)[0]
    ]


def test_what_cannot_be_answered_is_refused(lm_eval, model, tokenizer):
    lm = lm_eval.CrammedLM(model, tokenizer, MEM)
    long = " red ball" * POSITIONS
    for call, message in (
        (lambda: lm.loglikelihood(requests(("a", ""))), "the context 'a' has an empty continuation"),
        (lambda: lm.loglikelihood(requests(("a", long))), "more than the 38 that the model can read"),
        (lambda: lm.generate_until(requests(("a", {"do_sample": True}))), "only greedy generation"),
        (lambda: lm.generate_until(requests(("a", {"temperature": 0.5}))), "only greedy generation"),
        (lambda: lm.generate_until(requests(("a", {"max_gen_toks": 0}))), "max_gen_toks=0 must be at least"),
        (
            lambda: lm.generate_until(requests(("a", {"repetition_penalty": 2.0}))),
            "repetition_penalty=2.0: only greedy generation is supported; leave it out",
        ),
        (lambda: lm.generate_until(requests(("a", {}))), "max_gen_toks=256 leaves no room for a context"),
        (lambda: lm_eval.CrammedLM(model, tokenizer, MEM[:, :3]), "embedding of shape [2, 3]: the model"),
        (lambda: lm_eval.CrammedLM(model, tokenizer, MEM, knockout=[2]), "there is no layer 2"),
    ):
        with pytest.raises(UserError) as refusal:
            call()
        assert message in str(refusal.value)


@pytest.mark.slow
def test_without_a_memory_it_is_the_harness_own_model(lm_eval, tokenizer):
    pytest.importorskip("torch")
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(port.bundled_model()), device="cpu", dtype="float32", batch_size=4)
    ours = lm_eval.CrammedLM(port.load(port.bundled_model(), dtype="float32"), tokenizer)
    asked = requests(*PAIRS[:4], PAIRS[5])
    for (log_prob, is_greedy), (other, other_greedy) in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked), strict=True
    ):
        assert log_prob == pytest.approx(other, abs=1e-3)
        assert is_greedy == other_greedy
    theirs.add_bos_token = False  # or it puts BOS before a text that has one, and scores that one too
    texts = requests(*((context + continuation,) for context, continuation in PAIRS[:4]))
    np.testing.assert_allclose(
        ours.loglikelihood_rolling(texts), theirs.loglikelihood_rolling(texts), atol=1e-3
    )
    theirs.add_bos_token = None
    options = {"max_gen_toks": 12, "until": ["."], "do_sample": False}
    asked = requests(*((context, options) for context, _ in PAIRS[:3]))
    assert ours.generate_until(asked) == theirs.generate_until(asked)
