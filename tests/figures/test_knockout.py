"""The figures of a sweep show its numbers at the layers, or numbers of layers, that they belong to."""

import pytest

from jaxcram.figures import style
from jaxcram.figures.knockout import cumulative_figure, single_figure


def entry(layers, accuracy, tf_accuracy):
    interval = [accuracy - 0.1, accuracy + 0.1]
    return {
        "layers": layers,
        "accuracy": accuracy,
        "accuracy_interval": interval,
        "tf_accuracy": tf_accuracy,
        "attention_mass": None,
    }


NONE, ALL = entry([], 0.4, 1.0), entry([0, 1, 2], 0.6, 0.2)
SUMMARY = {
    "base_accuracy": 0.625,
    "crammed_accuracy": 0.4,
    "single": [NONE, entry([0], 0.5, 0.7), entry([1], 0.45, 0.8), entry([2], 0.42, 0.9), ALL],
    "forward": [NONE, entry([0], 0.5, 0.7), entry([0, 1], 0.55, 0.5), ALL],
    "reverse": [NONE, entry([2], 0.42, 0.9), entry([1, 2], 0.44, 0.6), ALL],
    "attention_mass": {"memory": [10.0, 20.0, 30.0], "bos": [40.0, 50.0, 60.0], "correlation": 1.0},
}


def texts(summary):
    """The summary of texts, which have no endings, and of which none has two tokens."""
    without = {"accuracy": None, "accuracy_interval": None}
    protocols = {name: [one | without for one in summary[name]] for name in ("single", "forward", "reverse")}
    masses = summary["attention_mass"] | {"bos": [None] * 3, "correlation": None}
    none = {"base_accuracy": None, "crammed_accuracy": None}
    return summary | protocols | none | {"attention_mass": masses}


def drawn(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


TF, TASK = "teacher-forced accuracy", "task accuracy, 95% interval"


def test_layers_alone_stand_before_bars_of_attention():
    axes, behind = single_figure(SUMMARY).axes
    assert drawn(axes) == {
        TF: [[0, 0.7], [1, 0.8], [2, 0.9]],
        TASK: [[0, 0.5], [1, 0.45], [2, 0.42]],
        "base accuracy 0.625": [[0, 0.625], [1, 0.625]],
        "crammed accuracy 0.400": [[0, 0.4], [1, 0.4]],
    }
    assert [bar.get_height() for bar in behind.patches] == [10, 20, 30]
    assert drawn(behind) == {"attention on the first token of the text alone": [[0, 40], [1, 50], [2, 60]]}
    assert axes.get_zorder() > behind.get_zorder()


def test_forward_and_reverse_stand_side_by_side_by_the_number_of_layers():
    figure = cumulative_figure(SUMMARY, "A model")
    for axes, protocol in zip(figure.axes, ("forward", "reverse"), strict=True):
        entries = SUMMARY[protocol]
        lines = drawn(axes)
        assert lines[TF] == [[k, one["tf_accuracy"]] for k, one in enumerate(entries)]
        assert lines[TASK] == [[k, one["accuracy"]] for k, one in enumerate(entries)]
        (band,) = axes.collections
        assert {tuple(point) for point in band.get_paths()[0].vertices.round(6)} == {
            (k, round(bound, 6)) for k, one in enumerate(entries) for bound in one["accuracy_interval"]
        }
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(lines)
    assert figure.get_suptitle() == "A model"


def test_texts_have_reconstruction_alone():
    axes, behind = single_figure(texts(SUMMARY)).axes
    assert drawn(axes) == {TF: [[0, 0.7], [1, 0.8], [2, 0.9]]}
    assert drawn(behind) == {}
    assert [list(drawn(axes)) for axes in cumulative_figure(texts(SUMMARY)).axes] == [[TF], [TF]]


def test_of_one_protocol_there_is_one_panel():
    (axes,) = cumulative_figure({name: SUMMARY[name] for name in SUMMARY if name != "forward"}).axes
    assert axes.get_title() == "reverse"


@pytest.mark.parametrize("summary", [SUMMARY, texts(SUMMARY)])
def test_lines_differ_by_more_than_colour(summary):
    for figure in (single_figure(summary), cumulative_figure(summary)):
        styles = [(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines]
        assert len(set(styles)) == len(styles)
        assert style.png(figure).startswith(b"\x89PNG")
