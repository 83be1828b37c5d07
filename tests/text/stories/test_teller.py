"""The story generator: determinism, consistency, correct English and distinctness."""

import re
from collections import Counter
from functools import cache
from itertools import islice

import pytest

from jaxcram.text.stories import HELD_OUT_SEED, lexicon, stories, story
from jaxcram.text.stories.teller import tell

SAMPLE = 2000


@cache
def sample() -> tuple[str, ...]:
    return tuple(stories(0, SAMPLE))


@cache
def tellings() -> list:
    return [tell(seed) for seed in range(SAMPLE)]


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def narration(text: str) -> str:
    return re.sub(r'"[^"]*"', "", text)


def test_golden_story():
    assert story(7) == (
        "Near the pier in Saltby lived Lily and her godfather. It was summer, and there were bees "
        "everywhere. Lily decided to make a plum cake for her godfather's birthday. She tied on an apron, "
        "found the recipe, and measured the ripe plums with floury fingers. Dust flew like snow, and the "
        "red squirrel sneezed. But, in her hurry, she had put in no eggs at all. A terrible smell came "
        'from the oven! "Oh no!" yelled Lily, and Finn came running. "It is not so bad," murmured her '
        'godfather. "We can try once more with a clear head." They stirred another, reading each line '
        "aloud, and watched the oven without blinking. This time the plum cake was a little crooked, and "
        "they covered it with cream. And what of the first one? Even the squirrel refused it. And so Lily "
        "went to bed soundly, while the sun blazed."
    )


def test_stories_are_the_stories_of_consecutive_seeds():
    assert list(stories(40, 3)) == [story(40), story(41), story(42)]
    assert list(islice(stories(HELD_OUT_SEED, 10**9), 1)) == [story(HELD_OUT_SEED)]


def test_negative_seed_is_refused():
    # random.Random ignores the sign, so -1 would silently repeat the story of 1.
    with pytest.raises(ValueError, match="-1"):
        story(-1)


def test_one_paragraph_of_plain_ascii_within_the_stated_length():
    lengths = [len(words_of(text)) for text in sample()]
    assert min(lengths) >= 60
    assert max(lengths) <= 180
    for text in sample():
        assert re.fullmatch(r"[A-Za-z',.:;!?\" -]+", text), text


def test_punctuation():
    for text in sample():
        assert text[-1] in '.!?"', text
        assert text.count('"') % 2 == 0, text
        assert not re.search(r"  | [,.:;!?]|[,.:;]{2}|[.!?]{2}", text), text
        titles = re.sub(r"\b(Mrs?)\.", r"\1", text)
        assert not re.search(r"[.!?] [a-z]", titles), text


def test_only_words_of_saying_go_on_after_a_quoted_question_or_cry():
    saying = (
        "said asked wondered inquired whispered murmured declared announced remarked cried shouted called "
    )
    saying += "exclaimed yelled gasped squealed laughed boasted she he"
    after = Counter(word for text in sample() for word in re.findall(r'[!?]" ([a-z]\w*)', text))
    assert after["asked"] > 0
    assert set(after) <= set(saying.split())


def test_article_agrees_with_the_next_word():
    articles = Counter(pair for text in sample() for pair in re.findall(r"\b(an?) (\w+)", text.lower()))
    assert articles["an", "old"] > 0
    for article, word in articles:
        vowel = word[0] in "aeiou" and not re.match(r"one|uni|use", word)
        assert article == ("an" if vowel or word.startswith(("hour", "honest")) else "a"), (article, word)


@pytest.mark.parametrize(
    ("subject", "foreign"), [("she", "he him his himself"), ("he", "she her hers herself")]
)
def test_pronouns_agree_when_all_the_cast_are_of_one_gender(subject, foreign):
    alike = [
        text for text, cast in tellings() if {cast[who] for who in ("he", "phe", "khe", "nhe")} == {subject}
    ]
    assert len(alike) >= 30
    for text in alike:
        assert not set(foreign.split()) & set(words_of(narration(text))), text


def test_hero_keeps_the_pronoun_of_the_child():
    # Sentences that start so are only ever about the hero.
    owners = re.compile(
        r"\b(His|Her) (?:knees|lip|chin|hands shook|hands trembled|heart|stomach|eyes|face)\b"
    )
    seen = 0
    for text, cast in tellings():
        for pronoun in owners.findall(narration(text)):
            assert pronoun.lower() == cast["his"], text
            seen += 1
        first_names = [name for name in (cast["hero"], cast["pal"]) if name in text]
        assert first_names[0] == cast["hero"], text
    assert seen > 200


@pytest.mark.parametrize(
    ("noun", "look", "rows"), [("thing", "mat", lexicon.THINGS), ("animal", "fur", lexicon.ANIMALS)]
)
def test_things_and_animals_keep_their_looks(noun, look, rows):
    looks = {
        row.split(" | ")[0]: row.split(" | ")[1].strip("{}").split("|") for row in rows.strip().splitlines()
    }
    seen = 0
    for text, cast in tellings():
        for adjective in looks[cast[noun]]:
            if re.search(rf"\b{adjective} {cast[noun]}\b", text):
                assert adjective == cast[look], text
                seen += 1
    assert seen > 400


def test_stories_are_distinct():
    assert len(set(sample())) == SAMPLE
    openings = Counter(re.split(r"(?<=[.!?]) ", text)[0] for text in sample())
    assert max(openings.values()) <= SAMPLE * 0.002
    assert len(openings) >= SAMPLE * 0.95


@pytest.mark.parametrize(("length", "largest_share", "distinct"), [(8, 0.02, 0.8), (12, 0.006, 0.95)])
def test_no_long_stretch_is_shared_by_many_stories(length, largest_share, distinct):
    grams = Counter()
    for text in sample():
        words = words_of(text)
        grams.update({tuple(words[at : at + length]) for at in range(len(words) - length + 1)})
    assert max(grams.values()) <= SAMPLE * largest_share, grams.most_common(1)
    assert len(grams) >= distinct * grams.total()


def test_vocabulary_is_rich():
    assert len({word for text in sample() for word in words_of(text)}) >= 2200


def test_held_out_stories_are_not_training_stories():
    trained_on = set(stories(0, 5000))
    assert trained_on.isdisjoint(stories(HELD_OUT_SEED, 1000))
