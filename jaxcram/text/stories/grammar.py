"""A small engine of weighted templates.

A template is text with three marks:

    {a|b|c}   one of the alternatives; the first is the likeliest, weights fall like 1 / (rank + 2)
    [text]    the text or nothing, with equal chance
    $name     a rule of the grammar (expanded afresh each time) or else a word bound for the whole story

Marks nest.  Templates are compiled once; expanding one costs a table look-up per choice.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_MARKS = re.compile(r"[{}\[\]|]|\$[a-z_]+|[^{}\[\]|$]+")
_SLOTS_PER_ALTERNATIVE = 12  # resolution of the weights: a choice of n becomes a table of about 12 n entries


@dataclass(frozen=True, slots=True)
class Slot:
    """A name to be replaced by the word bound to it in the story."""

    name: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after another: literal text, slots, or choices (tables of texts and sequences)."""

    parts: tuple


Template = str | Sequence


def ranked_table(alternatives: list) -> tuple:
    """Repeats each alternative in proportion to 1 / (rank + 2), at least once, so that one draw chooses."""
    weights = [1.0 / (rank + 2) for rank in range(len(alternatives))]
    scale = _SLOTS_PER_ALTERNATIVE * len(alternatives) / sum(weights)
    return tuple(
        alternative
        for alternative, weight in zip(alternatives, weights, strict=True)
        for _ in range(max(1, round(scale * weight)))
    )


class Grammar:
    """A compiler of templates, with the rules that they may refer to by name."""

    def __init__(self, rules: Mapping[str, str]):
        self._rules = rules
        self._compiled: dict[str, Template] = {}

    def compile(self, template: str) -> Template:
        """Returns the compiled template: a string or a `Sequence`.  Raises ValueError on unbalanced marks."""
        tokens = _MARKS.findall(template)
        node, end = self._alternatives(tokens, 0, close=None)
        if end != len(tokens) or len(node) != 1:
            raise ValueError(f"unbalanced template: {template!r}")
        return node[0]

    def _alternatives(self, tokens: list[str], at: int, close: str | None) -> tuple[list, int]:
        found: list[Template] = []
        parts: list[str | tuple | Slot | Sequence] = []
        while at < len(tokens) and tokens[at] != close:
            token = tokens[at]
            at += 1
            if token == "|":
                found.append(_simplify(parts))
                parts = []
            elif token in ("{", "["):
                end = "}" if token == "{" else "]"
                inner, at = self._alternatives(tokens, at, close=end)
                if at == len(tokens):
                    raise ValueError(f"missing {end!r} in {''.join(tokens)!r}")
                at += 1
                parts.append(ranked_table(inner) if token == "{" else (_only(inner), ""))
            elif token in ("}", "]"):
                raise ValueError(f"stray {token!r} in {''.join(tokens)!r}")
            elif token[0] == "$":
                parts.append(self._reference(token[1:]))
            else:
                parts.append(token)
        found.append(_simplify(parts))
        return found, at

    def _reference(self, name: str) -> Slot | Template:
        if name not in self._rules:
            return Slot(name)
        if name not in self._compiled:
            self._compiled[name] = self.compile("{" + self._rules[name] + "}")
        return self._compiled[name]


def _only(alternatives: list[Template]) -> Template:
    return alternatives[0] if len(alternatives) == 1 else Sequence((ranked_table(alternatives),))


def _simplify(parts: list) -> Template:
    if all(isinstance(part, str) for part in parts):
        return "".join(parts)
    flat: list = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Sequence) else (part,))
    return Sequence(tuple(flat))


def expand(node: Template, words: Mapping[str, str], draw: Callable[[], float]) -> str:
    """Expands a compiled template; `draw` returns uniform floats in [0, 1)."""
    if isinstance(node, str):
        return node
    out = []
    for part in node.parts:
        kind = type(part)
        if kind is str:
            out.append(part)
        elif kind is tuple:
            chosen = part[int(draw() * len(part))]
            out.append(chosen if type(chosen) is str else expand(chosen, words, draw))
        else:
            out.append(words[part.name])
    return "".join(out)
