"""The tables of evaluations and knockouts, line by line."""

from jaxcram import report
from jaxcram.evaluate.accuracy import NORMALIZATIONS
from jaxcram.evaluate.multiple_choice import SCORES


def figures(mean, low, high):
    return {
        "accuracy": mean,
        "interval": [low, high],
        "accuracy_converged": None,
        "interval_converged": [None] * 2,
    }


def test_the_table_of_an_evaluation():
    summary = {
        "task": "hellaswag",
        "items": 8,
        "converged": 0,
        "accuracies": {name: dict.fromkeys(NORMALIZATIONS, figures(0.5, 0.125, 0.875)) for name in SCORES},
        "difference": -0.25,
        "difference_interval": [-0.5, 0.0],
        "difference_converged": None,
        "difference_converged_interval": [None, None],
    }
    lines = report.evaluation(summary).splitlines()
    assert lines[:5] == [
        "hellaswag: 8 items, 0 converged (Conv 0.0%)",
        "",
        "accuracy        by sum              by token            by character        by token, converged",
        "base            0.500 [0.12, 0.88]  0.500 [0.12, 0.88]  0.500 [0.12, 0.88]  -",
        "base_ending     0.500 [0.12, 0.88]  0.500 [0.12, 0.88]  0.500 [0.12, 0.88]  -",
    ]
    assert lines[12] == (
        "crammed minus base, by token:  -0.250 [-0.50, 0.00] on all items, - on the converged ones"
    )


GENERATED = {
    "task": "mmlu",
    "generative": "few_shot",
    "items": 16,
    "converged": 12,
    **dict.fromkeys(("accuracy", "base_accuracy", "accuracy_converged", "difference"), 0.25),
    **dict.fromkeys(("valid_share", "base_valid_share", "valid_share_converged"), 1.0),
}
GENERATED |= {f"{name}_interval": [0.0, 1.0] for name, value in GENERATED.items() if isinstance(value, float)}


def test_the_table_of_generated_answers():
    assert report.generation(GENERATED).splitlines()[:7] == [
        "mmlu, generative, few_shot: 16 items, of which the crammed text converged for 12",
        "",
        "               accuracy            valid",
        "plain text     0.250 [0.00, 1.00]  1.000 [0.00, 1.00]",
        "few_shot       0.250 [0.00, 1.00]  1.000 [0.00, 1.00]",
        "... converged  0.250 [0.00, 1.00]  1.000 [0.00, 1.00]",
        "",
    ]
    plain = {name: value for name, value in GENERATED.items() if "converged" not in name}
    lines = report.generation(plain | {"generative": "none"}).splitlines()
    assert lines[:4] == [
        "mmlu, generative, none: 16 items",
        "",
        "            accuracy            valid",
        "plain text  0.250 [0.00, 1.00]  1.000 [0.00, 1.00]",
    ]


def entry(layers, accuracy, tf_accuracy):
    interval = None if accuracy is None else [0.0, 1.0]
    return {"layers": layers, "accuracy": accuracy, "accuracy_interval": interval, "tf_accuracy": tf_accuracy}


def swept(accuracy):
    def of(layers, value, tf):
        return entry(layers, accuracy and value, tf)

    none, both = of([], 0.25, 1.0), of([0, 1], 0.5, 0.5)
    return {
        "task": accuracy and "cloze",
        "items": 4,
        "converged": 3,
        "num_layers": 2,
        "base_accuracy": accuracy and 0.5,
        "base_accuracy_interval": accuracy and [0.0, 1.0],
        "crammed_accuracy": accuracy and 0.25,
        "crammed_accuracy_interval": accuracy and [0.0, 0.75],
        "crammed_tf_accuracy": 1.0,
        "single": [none, of([0], 0.375, 0.75), of([1], 0.25, 0.875), both],
        "forward": [none, of([0], 0.375, 0.75), both],
        "reverse": [none, of([1], 0.25, 0.875), both],
        "layers": [of([1], 0.25, 0.875)],
        "attention_mass": {"memory": [12.5, 50.0], "bos": [25.0, None], "correlation": None},
    }


def test_the_table_of_a_knockout():
    lines = report.knockout(swept(True)).splitlines()
    assert lines[:11] == [
        "cloze: 4 items, 3 converged, 2 layers",
        "accuracy  base 0.500 [0.00, 1.00], crammed 0.250 [0.00, 0.75]",
        "TF        crammed 1.000",
        "",
        "layer  alone: acc     TF  first: acc     TF  last: acc     TF  mass memory  mass bos",
        "    0       0.375  0.750       0.375  0.750      0.500  0.500         12.5      25.0",
        "    1       0.250  0.875       0.500  0.500      0.250  0.875         50.0         -",
        "",
        "layers            accuracy     TF",
        "     1  0.250 [0.00, 1.00]  0.875",
        "",
    ]


def test_the_table_of_a_knockout_of_texts():
    lines = report.knockout(swept(None) | {"layers": []}).splitlines()
    assert lines[:6] == [
        "4 texts, 3 converged, 2 layers",
        "TF        crammed 1.000",
        "",
        "layer  alone: TF  first: TF  last: TF  mass memory  mass bos",
        "    0      0.750      0.750     0.500         12.5      25.0",
        "    1      0.875      0.500     0.875         50.0         -",
    ]
