"""Texts and tokens."""

import numpy as np

from jaxcram.text import load_texts, load_tokenizer, tokenize


def test_tokens_of_the_reference_model(shared):
    tokenizer = load_tokenizer(shared / "models" / "stories260K")
    assert tokenizer.encode("Zoo was") == [1, 410, 469, 347, 286]
    assert tokenizer.encode("Zoo was", bos=False) == [410, 469, 347, 286]
    assert tokenizer.decode([1, 410, 469, 347, 286]) == "Zoo was"
    (sample,) = tokenize(
        load_texts("passages", num_samples=1, offset=4), tokenizer, max_tokens=5, bos=None, max_positions=512
    )
    assert sample.sample_id == 4
    assert sample.tokens.dtype == np.int32
    assert sample.tokens.shape == (5,)
