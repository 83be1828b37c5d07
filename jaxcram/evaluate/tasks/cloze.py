"""Cloze: which sentence of a text comes next; made of the package's own stories and passages.

The items come with the package; tests/fixtures/make_cloze.py made them, and says how they were chosen.
"""

from pathlib import Path

from jaxcram.evaluate.tasks.task import Item, Row, Task


def _item(row: Row, number: int) -> Item:
    endings = row.texts("endings")
    return Item(
        number, row.text("context"), endings, row.index("label", len(endings)), subject=row.text("kind")
    )


CLOZE = Task(
    name="cloze",
    columns=("context", "endings", "label", "kind"),
    item=_item,
    source=str(Path(__file__).with_name("cloze.jsonl")),
)
