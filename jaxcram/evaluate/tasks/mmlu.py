"""MMLU: exam questions of 57 subjects, answered with a letter, after solved ones of the same subject.

The format is that of the original evaluation (Hendrycks et al. 2021).
"""

from jaxcram.evaluate.tasks.task import Item, Row, Task

LETTERS = "ABCD"


def _item(row: Row, number: int) -> Item:
    choices = row.texts("choices")
    if len(choices) != len(LETTERS):
        row.refuse(f"column 'choices' has {len(choices)} texts, not {len(LETTERS)}")
    lines = [row.text("question").strip()]
    lines += [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    return Item(
        id=number,
        context="\n".join([*lines, "Answer:"]),
        endings=tuple(LETTERS),
        label=row.index("answer", len(LETTERS)),
        subject=row.text("subject"),
    )


def _shot(item: Item) -> str:
    return f"{item.context} {item.endings[item.label]}\n\n"


def _preamble(subject: str | None) -> str:
    about = (subject or "").replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {about}.\n\n"


MMLU = Task(
    name="mmlu",
    columns=("subject", "question", "choices", "answer"),
    item=_item,
    source="cais/mmlu:all",
    split="test",
    shot=_shot,
    preamble=_preamble,
    shots_split="dev",
)
