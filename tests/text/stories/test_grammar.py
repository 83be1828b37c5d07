"""The template engine, and the soundness of every template of the stories."""

import random

import pytest

from jaxcram.text.stories import plots, teller
from jaxcram.text.stories.grammar import Grammar, Sequence, Slot, expand, ranked_table


def expansions(template: str, words=None, rules=None, draws: int = 300) -> set[str]:
    node = Grammar(rules or {}).compile(template)
    draw = random.Random(0).random
    return {expand(node, words or {}, draw) for _ in range(draws)}


def test_choice_option_and_nesting():
    assert expansions("a{b|c[d]}") == {"ab", "ac", "acd"}
    assert expansions("x[ y| z]") == {"x", "x y", "x z"}


def test_rules_vary_and_bound_words_do_not():
    assert expansions(
        "$color $who", words={"who": "fox"}, rules={"color": "red|$dark", "dark": "black|brown"}
    ) == {
        "red fox",
        "black fox",
        "brown fox",
    }


def test_earlier_alternatives_are_likelier():
    table = ranked_table(["a", "b", "c"])
    weight = 12 * 3 / (1 / 2 + 1 / 3 + 1 / 4)
    assert [table.count(letter) for letter in "abc"] == [round(weight / n) for n in (2, 3, 4)]


@pytest.mark.parametrize("template", ["{a|b", "a]", "[a}", "a|b", "x}"])
def test_unbalanced_templates_are_refused(template):
    with pytest.raises(ValueError):  # noqa: PT011
        Grammar({}).compile(template)


def slots(node, seen: set) -> set[str]:
    """The names of all slots below a node."""
    if isinstance(node, Slot):
        return {node.name}
    if isinstance(node, str) or id(node) in seen:
        return set()
    seen.add(id(node))
    parts = node.parts if isinstance(node, Sequence) else node
    return {name for part in parts for name in slots(part, seen)}


def test_every_slot_of_every_template_can_be_filled():
    templates = [beat.tellings for plot in plots.PLOTS for beat in plot] + [plots.OPENING, plots.CLOSING]
    cast = teller.tell(0)[1]
    assert slots(templates, set()) <= set(cast) | set(cast.columns)


def test_there_are_at_least_fifteen_plots():
    assert len(plots.PLOTS) == 18
