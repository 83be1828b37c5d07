"""Where the context ends and the ending begins, as lm-evaluation-harness has it."""

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from jaxcram.errors import UserError
from jaxcram.evaluate.choices import encode_items, encode_pair
from jaxcram.evaluate.tasks.task import Item
from jaxcram.text.tokenizer import Tokenizer

BYTES = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
SPACE = "Ġ"  # of byte-level BPE


def tokenizer(*merges: str, bos: bool = False) -> Tokenizer:
    """Single bytes, and what these merges make of them, across spaces too."""
    pairs = [tuple(merge.replace(" ", SPACE).split("+")) for merge in merges]
    vocab = BYTES | {"".join(pair): 256 + i for i, pair in enumerate(pairs)} | {"<s>": 999}
    backend = Backend(models.BPE(vocab=vocab, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 999)])
    return Tokenizer(backend, name="test", bos_token="<s>", eos_token=None)


def split(tokens: Tokenizer, context: str, continuation: str) -> tuple[str, str]:
    ids, number = encode_pair(tokens, context, continuation)
    return tokens.decode(ids[:number]), tokens.decode(ids[number:])


@pytest.mark.parametrize(
    ("merges", "context", "continuation", "expected"),
    [
        # The continuation owns its space, whether its own or the context's.
        ([], "ab", " cd", ("ab", " cd")),
        ([], "ab ", "cd", ("ab", " cd")),
        ([], "ab \n", " cd", ("ab", " \n cd")),
        ([" +c"], "ab", " cd", ("ab", " cd")),
        # A merge across the border: as many tokens are the context's as it has alone.
        (["b+c"], "ab", "cd", ("abc", "d")),
        (["a+b", "c+d"], "ab", "cde", ("ab", "cde")),
        (["b+c", "a+b", "bc+d"], "ab", "cdef", ("a", "bcdef")),
        (["b+c", "bc+d"], "ab", "cd", ("a", "bcd")),  # nothing is left: the last token stays
        (["a+b", "ab+c"], "ab", "c", ("", "abc")),
        # A merge that the context has only alone.
        (["b+c", "a+b"], "ab", "cd", ("a", "bcd")),
        # Nothing before the continuation.
        ([], "", "ab", ("", "ab")),
        ([], "  ", "ab", ("", "  ab")),
    ],
)
def test_the_border(merges, context, continuation, expected):
    assert split(tokenizer(*merges), context, continuation) == expected
    first, rest = split(tokenizer(*merges, bos=True), context, continuation)
    assert (first, rest) == ("<s>" + expected[0], expected[1])


def test_a_continuation_always_has_a_token():
    rng, alphabet = np.random.default_rng(0), list("ab ")
    merging = tokenizer("a+b", "b+a", " +a", "ab+ab", "ba+b", "b+ ", "a+a", "ab+a", " a+b", "aa+b")
    for _ in range(300):
        context, continuation = ("".join(rng.choice(alphabet, rng.integers(1, 6))) for _ in range(2))
        ids, number = encode_pair(merging, context, continuation)
        assert 0 <= number < len(ids)
        assert ids == merging.encode(context + continuation)
    with pytest.raises(ValueError, match="empty continuation"):
        encode_pair(merging, "a", "")


def test_an_item_in_tokens():
    items = [
        Item(7, "ab", ("cd", "e"), 1),
        Item(8, "ab\n", ("cd",), 0),  # its own white space joins them
    ]
    tokens = tokenizer(bos=True)
    first, second = encode_items(items, tokens, max_positions=64)
    assert (first.id, first.label, first.num_context, second.id) == (7, 1, (3, 3), 8)
    decoded = [tokens.decode(text) for item in (first, second) for text in (item.context, *item.texts)]
    assert decoded == ["<s>ab", "<s>ab cd", "<s>ab e", "<s>ab", "<s>ab\ncd"]
    assert (first.text_characters, first.ending_characters) == ((5, 4), (2, 1))
    assert (second.text_characters, second.ending_characters) == ((5,), (2,))
    assert first.context.dtype == first.texts[0].dtype == np.int32
    (without,) = encode_items(items[:1], tokens, max_positions=64, bos=False)
    assert without.num_context == (2, 2)


def test_a_text_that_the_model_has_no_positions_for():
    items = [Item(7, "abcd", ("ef", "efgh"), 0)]
    encode_items(items, tokenizer(), max_positions=10, num_memory=2)
    with pytest.raises(UserError) as error:
        encode_items(items, tokenizer(), max_positions=9, num_memory=2)
    assert str(error.value) == (
        "item 7: 9 tokens after 2 memory embeddings need 10 positions, the model has 9; choose other samples"
    )
