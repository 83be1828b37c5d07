"""ARC: questions of science from schools, easy and hard (Clark et al. 2018).

As published for cramming, an ending follows the bare question. Most questions have four choices, a few three
or five; they are called A to E or 1 to 5.
"""

from jaxcram.evaluate.tasks.task import Item, Row, Task


def _item(row: Row, number: int) -> Item:
    names = row.texts_within("choices", "label")
    endings = row.texts_within("choices", "text")
    if len(names) != len(endings):
        row.refuse(f"column 'choices' has {len(endings)} texts, but {len(names)} labels")
    return Item(number, row.text("question"), endings, row.position("answerKey", names))


def _task(name: str, config: str) -> Task:
    columns = ("question", "choices", "answerKey")
    return Task(name, columns, _item, source=f"allenai/ai2_arc:{config}", split="validation")


ARC_EASY = _task("arc_easy", "ARC-Easy")
ARC_CHALLENGE = _task("arc_challenge", "ARC-Challenge")
