"""Knockout sweeps: the conditions, and scores under them against a Llama in plain NumPy."""

import numpy as np
import pytest

from jaxcram import forward
from jaxcram.errors import UserError
from jaxcram.evaluate.accuracy import accuracy, right
from jaxcram.evaluate.choices import Choices
from jaxcram.evaluate.knockout import barred, decisions, sweep
from jaxcram.evaluate.multiple_choice import score
from jaxcram.models.decoder import OwnRowKnockout
from jaxcram.models.llama import LlamaConfig
from tests import plain
from tests.lively import TINY, lively

LAYERS, MEMORY, LENGTHS = 3, 2, ((4, 3, 6), (7, 5, 2), (9, 4, 4))


@pytest.fixture(scope="module")
def model():
    return lively(LlamaConfig(**TINY | {"num_layers": LAYERS}))


def items(lengths=LENGTHS):
    """Items of two endings: tokens of the context and of each ending."""
    rng = np.random.default_rng(3)
    made = []
    for number, (context, *endings) in enumerate(lengths):
        start = rng.integers(0, 48, context)
        texts = tuple(np.r_[start, rng.integers(0, 48, n)].astype(np.int32) for n in endings)
        made.append(Choices(number, number % 2, start, texts, (context,) * 2, (1, 1), (1, 1)))
    return made


MEM = np.random.default_rng(4).normal(0, 1, (len(LENGTHS), MEMORY, 32)).astype(np.float32)


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


@pytest.mark.parametrize("own_row", [False, True])
def test_scores_under_every_condition_are_those_of_plain_numpy(model, own_row):
    """Texts of several lengths share a pass, and padding is no key of a row that sees all of the text."""
    conditions = sweep(LAYERS).layers_CxL
    choices = items()
    repeated = [item for item in choices for _ in conditions]
    layers = np.tile(conditions, (len(choices), 1))
    scores = score(
        model,
        repeated,
        np.repeat(MEM, len(conditions), axis=0),
        names=["memory_edge"],
        knockout_IxL=OwnRowKnockout(layers) if own_row else layers,
    )
    expected = np.array(
        [
            [-plain.nlls(model, MEM[item.id], text, layers_L, own_row).sum() for text in item.texts]
            for item, layers_L in zip(repeated, layers, strict=True)
        ]
    )
    np.testing.assert_allclose([row.log_probs for row in scores], expected, atol=1e-4, rtol=0)
    # The two kinds differ here by far more than the tolerance.
    other = -plain.nlls(model, MEM[0], choices[0].texts[0], conditions[1], not own_row).sum()
    assert abs(other - expected[1, 0]) > 0.01


@pytest.mark.parametrize("own_row", [False, True])
def test_decisions_go_from_crammed_to_base(model, own_row):
    conditions, choices = sweep(LAYERS), items()
    right_CxI = decisions(model, choices, MEM, conditions.layers_CxL, own_row=own_row)
    none, *_, everything = conditions.protocols["forward"]
    crammed, base = score(model, choices, MEM, names=["memory"]), score(model, choices, names=["base"])
    np.testing.assert_array_equal(right_CxI[none], right(crammed, "token"))
    np.testing.assert_array_equal(right_CxI[everything], right(base, "token"))
    assert right_CxI.shape == (len(conditions.names), len(choices))
    for layers_L, right_I in zip(conditions.layers_CxL, right_CxI, strict=True):
        best = [
            np.argmin([plain.nlls(model, MEM[x.id], t, layers_L, own_row)[1:].mean() for t in x.texts])
            for x in choices
        ]
        assert right_I.tolist() == [x.label == ending for x, ending in zip(choices, best, strict=True)]
        assert accuracy(right_I).mean == np.mean(right_I)


def test_all_conditions_are_one_trace(model):
    choices = items([(5, 3, 3)] * 8)  # 4 conditions of 8 items of 2 endings are 8 passes of 8 rows
    mem = np.repeat(MEM[:1], 8, axis=0)
    before = forward._token_nll._cache_size()
    decisions(model, choices, mem, sweep(LAYERS, ["forward"]).layers_CxL)
    assert forward._token_nll._cache_size() == before + 1


@pytest.mark.parametrize("num_memory", [1, 2])
def test_without_lengths_a_barred_row_sees_all_positions(model, num_memory):
    """One text without padding, in which the barred rows see its last token too."""
    text, mem, layers_L = items()[0].texts[0], MEM[0, :num_memory], np.array([True, False, False])
    knockout = OwnRowKnockout(layers_L[None])
    found = forward.token_nll(model, mem[None], text[None], knockout_SxL=knockout)
    expected = plain.nlls(model, mem, text, layers_L, own_row=True)
    np.testing.assert_allclose(found[0], expected, atol=1e-4, rtol=0)
    text[-1] = (text[-1] + 1) % 48
    other = forward.token_nll(model, mem[None], text[None], knockout_SxL=knockout)
    assert np.abs(other[0, :-1] - found[0, :-1]).max() > 1e-4
