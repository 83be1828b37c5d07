"""Any task of lm-evaluation-harness on a decoder of jaxcram, after a crammed embedding or without.

    from lm_eval import simple_evaluate
    from jaxcram import api
    from jaxcram.evaluate.lm_eval import CrammedLM

    model = api.load_model("HuggingFaceTB/SmolLM2-135M")
    lm = CrammedLM(model.decoder, model.tokenizer, embedding)
    simple_evaluate(lm, tasks=["lambada_openai"], limit=100)

The memory stands before every request, BOS included. lm-evaluation-harness is an optional package:
pip install 'jaxcram[bench]'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jaxcram.devices import configuration
from jaxcram.errors import UserError
from jaxcram.evaluate.choices import encode_pair
from jaxcram.evaluate.greedy import generated, until_end
from jaxcram.evaluate.knockout import barred
from jaxcram.evaluate.memory import memory_of
from jaxcram.evaluate.packing import BATCH_TOKENS, text_fits
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokenizer import Tokenizer

try:
    from lm_eval.api.model import LM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise UserError(
        "jaxcram.evaluate.lm_eval: the package lm_eval is not installed; pip install 'jaxcram[bench]'"
    ) from error

NEW_TOKENS = 256  # generated if a task does not say how many, as in the harness
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_NO_MATTER = ("until", "do_sample", "temperature", "top_k", "top_p")  # to which token is the first of all


class _Request(NamedTuple):
    """Tokens of context and continuation, and how many of them are the context's, at least 1."""

    tokens: Sequence[int]
    num_context: int


class CrammedLM(LM):
    """A decoder as the harness sees a model.

    Where the context is empty, BOS stands for it, or EOS if the tokenizer has no BOS; both as in the
    harness' own models, and with a memory too.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        embedding: npt.ArrayLike | None = None,
        *,
        knockout: str | Iterable[int] | np.ndarray | None = None,
        bos: bool | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        """Nothing is computed before the first request.

        Args:
            decoder, tokenizer: of the model.
            embedding: the memory before every request, [K, D] or [D]; None for none.
            knockout: layers at which no request sees them, as `knockout.barred` takes them.
            bos: whether texts begin with BOS; None follows the tokenizer.
            batch_tokens: tokens of a pass, padding included.

        Raises:
            UserError: as `memory_of`, or a knockout that bars nothing or has no memory to bar.
        """
        super().__init__()
        config = decoder.config
        if embedding is None and knockout is not None:
            raise UserError("knockout: without an embedding there is nothing to knock out; leave it out")
        self._decoder, self._tokenizer, self._bos, self._batch_tokens = decoder, tokenizer, bos, batch_tokens
        self._mem_KxD = None if embedding is None else memory_of(embedding, config.width)
        self._knockout_L = None if knockout is None else barred(knockout, config.num_layers)
        # What the decoder can read beside the memory.
        self._positions = config.max_positions - (0 if self._mem_KxD is None else len(self._mem_KxD))

    @configuration.pinned()
    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of each continuation: its log-probability in nats, and whether it is what greedy decoding says.

        Args:
            requests: with `args` of context and continuation. A context that is too long loses its
                beginning, but not BOS.

        Raises:
            UserError: a continuation that is empty or too long, or a log-probability that is not finite.
        """
        pairs = [request.args for request in requests]
        found = self._scored([self._encoded(context, continuation) for context, continuation in pairs])
        for pair, result in zip(pairs, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, result)
        return found

    @configuration.pinned()
    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """The log-probability in nats of each whole text, in windows as long as the model allows.

        Args:
            requests: with `args` of one text. BOS precedes the first window (once, and is not scored), the
                memory every one.

        Raises:
            UserError: a log-probability is not finite.
        """
        texts = [request.args[0] for request in requests]
        windows, owners = [], []
        for number, text in enumerate(texts):
            pieces = get_rolling_token_windows(
                self._tokenizer.encode(text, bos=False), self._prefix, self._positions, context_len=1
            )
            for context, continuation in map(make_disjoint_window, pieces):
                windows.append(_Request([*context, *continuation], len(context)))
                owners.append(number)
        totals = [0.0] * len(texts)
        for number, (log_prob, _) in zip(owners, self._scored(windows), strict=True):
            totals[number] += log_prob
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    @configuration.pinned()
    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The greedy continuation of each context, before an end token and the first of its stops.

        Args:
            requests: with `args` of the context and a dict with `until`, a stop or a list of them, and
                `max_gen_toks`. A context that is too long loses its beginning, but not BOS.

        Raises:
            UserError: anything but greedy decoding is asked for, there is no room for the new tokens, or a
                logit is not finite.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            by_length[_new_tokens(request.args[1])].append(number)
        found = [""] * len(requests)
        for length, members in by_length.items():
            contexts = [self._context(requests[i].args[0], length) for i in members]
            mem_KxD = self._mem_KxD
            tokens = generated(
                self._decoder,
                contexts,
                length,
                None if mem_KxD is None else np.broadcast_to(mem_KxD, (len(contexts), *mem_KxD.shape)),
                knockout_L=self._knockout_L,
                batch_tokens=self._batch_tokens,
            )
            for i, new in zip(members, tokens, strict=True):
                context, options = requests[i].args
                ended = until_end(self._decoder, new, f"the context {context[:40]!r}")
                found[i] = _before(self._tokenizer.decode(ended), options.get("until"))
                self.cache_hook.add_partial("generate_until", (context, options), found[i])
        return found

    @property
    def _prefix(self) -> int:
        """What stands for a context that is empty."""
        tokenizer = self._tokenizer
        prefix = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        if prefix is None:
            raise UserError("the tokenizer has neither BOS nor EOS, which stands for an empty context")
        return prefix

    def _encoded(self, context: str, continuation: str) -> _Request:
        if not continuation:
            raise UserError(f"the context {context[:40]!r} has an empty continuation; it has no score")
        if context:
            tokens, border = encode_pair(self._tokenizer, context, continuation, self._bos)
            doubled = self._doubled(tokens)
            tokens, border = tokens[doubled:], border - doubled
        else:
            tokens, border = self._tokenizer.encode(continuation, bos=False), 0
            border = int(len(tokens) > 1 and tokens[0] == self._prefix)
        if border == 0:
            tokens, border = [self._prefix, *tokens], 1
        if (scored := len(tokens) - border) > self._positions:
            raise UserError(
                f"the continuation {continuation[:40]!r} has {scored} tokens, more than the "
                f"{self._positions} that the model can read; choose another task"
            )
        kept = self._cut(tokens, self._positions + 1)  # the last one is not read
        return _Request(kept, border - len(tokens) + len(kept))

    def _context(self, context: str, new_tokens: int) -> np.ndarray:
        room = self._positions - new_tokens + 1  # the last new token is not read
        if room < 1:
            raise UserError(
                f"max_gen_toks={new_tokens} leaves no room for a context in the {self._positions} positions "
                "of the model; lower it"
            )
        tokens = (self._tokenizer.encode(context, self._bos) if context else []) or [self._prefix]
        tokens = tokens[self._doubled(tokens) :]
        self._decoder.config.require_ids(tokens, f"the context {context[:40]!r}")
        return np.asarray(self._cut(tokens, room), np.int32)

    def _doubled(self, tokens: list[int]) -> int:
        """1 if a text spells out the BOS that the tokenizer adds (the harness then adds none), else 0."""
        return int(tokens[:2] == [self._tokenizer.bos_id] * 2)

    def _cut(self, tokens: list[int], most: int) -> list[int]:
        """The last tokens of a text, after its BOS."""
        start = int(tokens[0] == self._tokenizer.bos_id)
        return tokens[:start] + tokens[start + max(0, len(tokens) - most) :]

    def _scored(self, requests: Sequence[_Request]) -> list[tuple[float, bool]]:
        """Sum of log-probabilities of each continuation, and whether all its tokens are the first of all."""
        for request in requests:
            self._decoder.config.require_ids(request.tokens, "a text")
        fits = text_fits(
            self._decoder,
            [np.asarray(request.tokens, np.int32) for request in requests],
            None if self._mem_KxD is None else self._mem_KxD[None],
            owner_S=np.zeros(len(requests), int),
            knockout_CxL=None if self._knockout_L is None else self._knockout_L[None],
            batch_tokens=self._batch_tokens,
        )
        found = []
        for request, fit in zip(requests, fits, strict=True):
            nll = float(fit.nll[request.num_context :].sum(dtype=np.float64))
            if not np.isfinite(nll):
                text = self._tokenizer.decode(request.tokens)
                raise UserError(
                    f"the text {text[:40]!r}: a log-probability is not finite; the model is damaged, or "
                    f"overflows in {np.dtype(self._decoder.dtype)}"
                )
            found.append((-nll, bool(fit.correct[request.num_context :].all())))
        return found


def _new_tokens(options: Mapping[str, Any]) -> int:
    if options.get("do_sample") or (options.get("do_sample") is None and options.get("temperature")):
        raise UserError("do_sample: only greedy generation is supported; choose a task without sampling")
    if others := options.keys() - {*_LENGTHS, *_NO_MATTER}:
        name = min(others)
        raise UserError(f"{name}={options[name]!r}: only greedy generation is supported; leave it out")
    given = {name: int(options[name]) for name in _LENGTHS if options.get(name) is not None}
    name, count = next(iter(given.items()), ("", NEW_TOKENS))
    if count < 1:
        raise UserError(f"{name}={count} must be at least 1")
    return count


def _before(text: str, stops: str | Sequence[str] | None) -> str:
    """A text before the first of its stops."""
    for stop in [stops] if isinstance(stops, str) else stops or []:
        text = text.split(stop)[0] if stop else text
    return text
