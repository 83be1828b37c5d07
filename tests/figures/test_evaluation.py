"""The figures of evaluations show their accuracies on the lines of the scores, or modes, that have them."""

from jaxcram.figures.evaluation import evaluation_figure, generation_figure


def points(axes):
    """By label: where its points are, and the ends of their bars."""
    found = {}
    for drawn in axes.containers:
        line, _, (bars,) = drawn.lines
        ends = [tuple(map(float, segment[:, 0].round(6))) for segment in bars.get_segments()]
        found[drawn.get_label()] = ([(round(x, 6), round(y, 6)) for x, y in line.get_xydata()], ends)
    return found


def test_every_score_has_a_line_and_every_normalisation_a_point_on_it():
    def entry(accuracy):
        return {"accuracy": accuracy, "interval": [accuracy - 0.1, accuracy + 0.2]}

    accuracies = {
        name: {"sum": entry(x), "token": entry(x + 0.1), "character": entry(x + 0.2)}
        for name, x in {"base": 0.2, "memory": 0.3}.items()
    }
    summary = {"accuracies": accuracies, "base_accuracy": 0.3, "items": 8, "converged": 5}
    (axes,) = evaluation_figure(summary, "A model").axes
    assert points(axes) == {
        "by sum": ([(0.2, -0.22), (0.3, 0.78)], [(0.1, 0.4), (0.2, 0.5)]),
        "by token": ([(0.3, 0.0), (0.4, 1.0)], [(0.2, 0.5), (0.3, 0.6)]),
        "by character": ([(0.4, 0.22), (0.5, 1.22)], [(0.3, 0.6), (0.4, 0.7)]),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "memory"]
    assert axes.get_ylim() == (1.5, -0.5)
    assert axes.get_xlabel() == "accuracy over 8 items (5 converged)"


ANSWERS = {
    "items": 16,
    **{"base_accuracy": 0.5, "base_accuracy_interval": [0.25, 0.75]},
    **{"base_valid_share": 1.0, "base_valid_share_interval": [1.0, 1.0]},
    **{"accuracy": 0.25, "accuracy_interval": [0.125, 0.5]},
    **{"valid_share": 0.75, "valid_share_interval": [0.5, 1.0]},
}


def test_answers_after_a_vector_stand_below_those_after_plain_text():
    (axes,) = generation_figure(ANSWERS | {"generative": "few_shot"}, "A model").axes
    assert points(axes) == {
        "right": ([(0.5, -0.11), (0.25, 0.89)], [(0.25, 0.75), (0.125, 0.5)]),
        "valid": ([(1.0, 0.11), (0.75, 1.11)], [(1.0, 1.0), (0.5, 1.0)]),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain text", "few_shot"]
    assert axes.get_title() == "A model"


def test_plain_text_alone_has_one_line():
    plain = {name: value for name, value in ANSWERS.items() if not name.startswith("base_")}
    (axes,) = generation_figure(plain | {"generative": "none"}, "").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain text"]
    assert points(axes)["right"] == ([(0.25, -0.11)], [(0.125, 0.5)])
