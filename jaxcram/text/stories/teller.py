"""Telling a story: cast it, follow a plot, and set the text in order."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from jaxcram.text.stories import lexicon
from jaxcram.text.stories.grammar import Template, expand
from jaxcram.text.stories.plots import CLOSING, OPENING, PLOTS, table

T = TypeVar("T")

HELD_OUT_SEED = 1_000_000_000
"""Training uses the seeds below this one; cramming uses the seeds from this one on."""

# The columns of the tables of `lexicon`, as the names of the slots they fill.
_TABLES = [
    (names.split(), table(rows))
    for names, rows in (
        ("job shop wares doing", lexicon.TRADES),
        ("thing mat use used usetail kept shone", lexicon.THINGS),
        ("animal fur bleated feed trotted den habit_a", lexicon.ANIMALS),
        ("village town place path hide ground water sound", lexicon.WORLDS),
        ("season dayadj sky wind detail drink light", lexicon.SEASONS),
        ("trait habit after", lexicon.TRAITS),
        ("dish stuff wrong saved oven", lexicon.DISHES),
        ("work planks tools where purpose", lexicon.BUILDS),
        ("plant seedling grown", lexicon.PLANTS),
        ("fear cellar truth charm", lexicon.FEARS),
        ("quarrel spark", lexicon.QUARRELS),
    )
]
_THINGS = _TABLES[1][1]
_FEMALE, _MALE = ("she", "her", "her", "girl"), ("he", "him", "his", "boy")
_GIRLS, _BOYS, _KINSWOMEN, _KINSMEN, _SURNAMES = (
    names.split()
    for names in (lexicon.GIRLS, lexicon.BOYS, lexicon.KIN_WOMEN, lexicon.KIN_MEN, lexicon.SURNAMES)
)

_SENTENCE_START = re.compile(r'(?:^|[.!?] |[.!?,:]"? "|\.[")] )"?[a-z]')
_ARTICLE = re.compile(r"\b([Aa]) (?=(?!one|use|uni)[aeiou]|hour|honest)")
_SPACE = re.compile(r" +(?=[ ,.;:!?])|(?<=^) ")


def story(seed: int) -> str:
    """The story of a seed: one paragraph of about 60 to 160 words, the same on every machine.

    Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"story seed {seed} is negative; seeds start at 0")
    return tell(seed)[0]


def tell(seed: int) -> tuple[str, "Cast"]:
    """The story of a seed, and the words that were bound for it."""
    draw = random.Random(seed).random
    words = _cast(draw)
    sentences = [expand(_pick(OPENING, draw), words, draw)]
    for beat in _pick(PLOTS, draw):
        if beat.optional and draw() < 0.5:
            continue
        at = len(sentences) - (1 if beat.movable and draw() < 0.5 else 0)
        sentences.insert(at, expand(_pick(beat.tellings, draw), words, draw))
    if draw() < 0.5:
        sentences.append(expand(_pick(CLOSING, draw), words, draw))
    return " ".join(map(_typeset, sentences)), words


def stories(first_seed: int, count: int) -> Iterator[str]:
    """The stories of `count` seeds from `first_seed` on."""
    return map(story, range(first_seed, first_seed + count))


class Cast(dict[str, str]):
    """The words bound for one story.  A word is chosen when it is first asked for and stays ever after."""

    def __init__(self, draw: Callable[[], float]):
        self.columns: dict[str, Template] = {}
        self.draw = draw

    def __missing__(self, name: str) -> str:
        word = self[name] = expand(self.columns[name], self, self.draw)
        return word


def _pick(options: Sequence[T], draw: Callable[[], float]) -> T:
    return options[int(draw() * len(options))]


def _cast(draw: Callable[[], float]) -> Cast:
    """Binds the people, things and places of one story."""
    words = Cast(draw)
    for names, rows in _TABLES:
        words.columns.update(zip(names, _pick(rows, draw), strict=True))
    gift = _pick(_THINGS, draw)
    while gift[0] == words["thing"]:
        gift = _pick(_THINGS, draw)
    words.columns.update(gift=gift[0], giftmat=gift[1])
    girl = draw() < 0.5
    pal_girl = girl if draw() < 0.3 else not girl
    _person(words, "hero he him his child", girl, _name(girl, draw))
    pal = _name(pal_girl, draw)
    while pal == words["hero"]:
        pal = _name(pal_girl, draw)
    _person(words, "pal phe phim phis pchild", pal_girl, pal)
    kin_woman = draw() < 0.5
    _person(
        words, "kin khe khim khis kchild", kin_woman, _skewed(_KINSWOMEN if kin_woman else _KINSMEN, draw)
    )
    neighbor_woman = draw() < 0.4
    title = ("Mrs." if draw() < 0.6 else "Miss") if neighbor_woman else "Mr."
    surname = _pick(_SURNAMES, draw)
    _person(words, "neighbor nhe nhim nhis nchild", neighbor_woman, f"{title} {surname}")
    return words


def _name(girl: bool, draw: Callable[[], float]) -> str:
    return _skewed(_GIRLS if girl else _BOYS, draw)


def _skewed(options: Sequence[T], draw: Callable[[], float]) -> T:
    """Picks early options more often (density of the relative rank x falls like x ** -1/3)."""
    return options[int(draw() ** 1.5 * len(options))]


def _person(words: Cast, slots: str, female: bool, name: str) -> None:
    words.update(zip(slots.split(), (name, *(_FEMALE if female else _MALE)), strict=True))


def _typeset(text: str) -> str:
    """Closes up spaces, turns a into an before vowels, and capitalizes sentences and quotations."""
    text = _SPACE.sub("", text)
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda match: match[0][:-1] + match[0][-1].upper(), text).strip()
