"""HellaSwag: which ending goes on with a description of what people do (Zellers et al. 2019)."""

from jaxcram.evaluate.tasks.task import Item, Row, Task


def _item(row: Row, number: int) -> Item:
    endings = row.texts("endings")
    return Item(number, row.text("ctx"), endings, row.index("label", len(endings)))


HELLASWAG = Task(
    name="hellaswag",
    columns=("ctx", "endings", "label"),
    item=_item,
    source="Rowan/hellaswag",
    split="validation",  # the test split has no labels
)
