"""A tokenizer of one's own: byte-level BPE, trained on the texts that the model is to be trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from jaxcram.errors import UserError
from jaxcram.results import disk
from jaxcram.train.corpora import Corpus

BOS, EOS = "<s>", "</s>"
_SAMPLE_CHARACTERS = 4_000_000  # what the tokenizer is trained on


def train_tokenizer(corpora: list[Corpus], vocab_size: int) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) on a sample of the mixture.

    It begins every text with BOS, as the tokenizers of the Llama family do.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(corpora), trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"vocab_size={vocab_size}: the texts give only {tokenizer.get_vocab_size()} tokens; lower it"
        )
    return tokenizer


def _sample(corpora: list[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        left = int(corpus.share * _SAMPLE_CHARACTERS)
        for document in corpus.train:
            yield document
            left -= len(document)
            if left <= 0:
                break


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes tokenizer_config.json and then tokenizer.json, for transformers and for `load_tokenizer`."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    text = json.dumps(config | {"clean_up_tokenization_spaces": False}, indent=2)
    disk.replace(directory / "tokenizer_config.json", text.encode() + b"\n")
    disk.replace(directory / "tokenizer.json", tokenizer.to_str(pretty=True).encode())
