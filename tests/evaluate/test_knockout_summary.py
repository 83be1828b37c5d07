"""What a sweep has found, counted by hand."""

import numpy as np
import pytest

from jaxcram.evaluate.accuracy import accuracy
from jaxcram.evaluate.knockout import sweep
from jaxcram.evaluate.knockout_effects import BASE, Effect
from jaxcram.evaluate.knockout_summary import summarise

SWEEP = sweep(2, sets=["1"])  # none, 0, 1, all
MEMORY = np.array([[0.2, 0.4], [0.4, 0.1]], np.float32)
BOS = np.array([[0.5, 0.25], [np.nan, np.nan]], np.float32)
RIGHT = {BASE: (1, 1), "none": (0, 0), "0": (1, 0), "1": (0, 1), "all": (1, 1)}
SHARES = {BASE: (np.nan, np.nan), "none": (1, 0.5), "0": (0.5, 0.25), "1": (1, 0.25), "all": (0, 0.25)}
EFFECTS = [
    Effect(item, name, SHARES[name][item], (-1.0, -2.0), {"token": bool(RIGHT[name][item]), "sum": False})
    for item in range(2)
    for name in RIGHT
]


def entry(layers, share, tf_accuracy, mass):
    interval = accuracy(np.repeat([True, False], [round(2 * share), 2 - round(2 * share)]))
    return {
        "layers": layers,
        "accuracy": share,
        "accuracy_interval": [interval.low, interval.high],
        "tf_accuracy": tf_accuracy,
        "attention_mass": None if mass is None else pytest.approx(mass),
    }


def test_every_protocol_goes_from_no_layer_to_all_with_the_means_of_its_layers():
    none, everything = entry([], 0, 0.75, None), entry([0, 1], 1, 0.125, 27.5)
    first, second = entry([0], 0.5, 0.375, 30), entry([1], 0.5, 0.625, 25)
    found = summarise(SWEEP, EFFECTS, MEMORY, BOS)
    assert found == {
        "items": 2,
        "base_accuracy": 1.0,
        "base_accuracy_interval": [1.0, 1.0],
        "crammed_accuracy": 0.0,
        "crammed_accuracy_interval": [0.0, 0.0],
        "crammed_tf_accuracy": 0.75,
        "single": [none, first, second, everything],
        "forward": [none, first, everything],
        "reverse": [none, second, everything],
        "layers": [second],
        "attention_mass": {
            "memory": pytest.approx([30, 25]),
            "bos": [50, 25],  # the text of one token has none
            "correlation": pytest.approx(1),
        },
    }
    assert summarise(SWEEP, EFFECTS, MEMORY, BOS, by="sum")["base_accuracy"] == 0


def test_the_order_of_items_changes_no_bit():
    rng = np.random.default_rng(0)
    effects = [
        Effect(item, name, float(rng.random()), (), {"token": bool(rng.integers(2))})
        for item in range(30)
        for name in SWEEP.names
    ]
    masses, order = rng.random((30, 2), np.float32), rng.permutation(30)
    moved = [effects[i] for i in rng.permutation(len(effects))]
    assert summarise(SWEEP, moved, masses[order], masses[order]) == summarise(SWEEP, effects, masses, masses)


def test_texts_have_reconstruction_and_masses_alone():
    effects = [one._replace(log_probs=(), right={}) for one in EFFECTS if one.condition != BASE]
    found = summarise(SWEEP, effects, MEMORY, np.full((2, 2), np.nan))
    assert found["base_accuracy"] is found["base_accuracy_interval"] is found["crammed_accuracy"] is None
    assert found["forward"][1] == entry([0], 0.5, 0.375, 30) | {"accuracy": None, "accuracy_interval": None}
    assert found["attention_mass"] == {
        "memory": pytest.approx([30, 25]),
        "bos": [None, None],
        "correlation": None,
    }
