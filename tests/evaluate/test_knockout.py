"""The conditions of knockout sweeps."""

import numpy as np
import pytest

from jaxcram.errors import UserError
from jaxcram.evaluate.knockout import barred, sweep

LAYERS = 3


def test_a_sweep_has_every_condition_of_the_protocols_once():
    made = sweep(LAYERS, sets=["1", " 0, 2 "])
    assert made.names == ("none", "0", "1", "2", "all", "0-1", "1-2", "0,2")
    np.testing.assert_array_equal(
        made.layers_CxL,
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]],
    )
    by_name = {protocol: [made.names[i] for i in numbers] for protocol, numbers in made.protocols.items()}
    assert by_name == {
        "single": ["none", "0", "1", "2", "all"],
        "forward": ["none", "0", "0-1", "all"],
        "reverse": ["none", "2", "1-2", "all"],
        "layers": ["1", "0,2"],
    }


@pytest.mark.parametrize("num_layers", [1, 2, 5, 30])
def test_every_protocol_goes_from_no_layer_to_all_and_every_name_reads_back(num_layers):
    made = sweep(num_layers)
    assert len(np.unique(made.layers_CxL, axis=0)) == len(made.names) == len(set(made.names))
    for protocol, numbers in made.protocols.items():
        counts = made.layers_CxL[list(numbers)].sum(1).tolist()
        single = [0, *([1] * num_layers), num_layers] if num_layers > 1 else [0, 1]
        assert counts == (single if protocol == "single" else list(range(num_layers + 1)))
    for name, layers_L in zip(made.names[1:], made.layers_CxL[1:], strict=True):
        np.testing.assert_array_equal(barred(name, num_layers), layers_L)


@pytest.mark.parametrize("layers", ["0-1,3", {3, 1, 0}, [0, 1, 3], np.array([1, 1, 0, 1], bool), "3,0-1,1"])
def test_a_set_of_layers_is_given_in_any_form(layers):
    np.testing.assert_array_equal(barred(layers, 4), [True, True, False, True])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("0-2,9", "layers '0-2,9': there is no layer 9; the model has layers 0 to 3"),
        ("2-5", "layers '2-5': there is no layer 4; the model has layers 0 to 3"),
        ("0-999999999", "layers '0-999999999': there is no layer 4; the model has layers 0 to 3"),
        ({-1}, "layers [-1]: there is no layer -1; the model has layers 0 to 3"),
        ("", "layers '': no layer is named, which would bar nothing; name some"),
        (set(), "layers set(): no layer is named, which would bar nothing; name some"),
        (
            np.zeros(4, bool),
            "layers [False, False, False, False]: no layer is named, which would bar nothing; name some",
        ),
        (np.ones(3, bool), "knockout of shape [3]: the model has 4 layers, give one boolean for each"),
        ("0,,1", "layers '0,,1': '' is not a layer or a range of layers; write as in 0-3,7"),
        ("first", "layers 'first': 'first' is not a layer or a range of layers; write as in 0-3,7"),
        ("3-0", "layers '3-0': the range '3-0' runs backwards; write 0-3"),
        ([0.5], "layers [0.5]: give whole numbers, or one boolean for each layer"),
    ],
)
def test_what_is_no_set_of_layers_of_the_model_is_refused(layers, message):
    with pytest.raises(UserError) as refusal:
        barred(layers, 4)
    assert str(refusal.value) == message


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UserError, match="protocol 'backward' must be one of single, forward, reverse"):
        sweep(2, ["backward"])
