"""Two runs of the same lanes, compared."""

import pytest
import same_lanes

from jaxcram.errors import UserError


def lanes(*horizons_and_steps):
    places = [(sample, rate, seed) for sample in (0, 1) for rate in (0.1, 1.0) for seed in (0, 1)]
    return {
        place: {"horizon": horizon, "steps": steps}
        for place, (horizon, steps) in zip(places, horizons_and_steps, strict=True)
    }


def test_differences_between_runs_and_between_seeds():
    before = lanes((5, 10), (7, 30), (4, 4), (4, 4), (9, 90), (8, 80), (1, 5), (3, 9))
    after = lanes((5, 10), (7, 31), (4, 4), (5, 9), (9, 90), (8, 80), (1, 5), (0, 1))
    assert same_lanes.compared(before, after) == {
        **{"lanes": 8, "equal_horizons": 6, "equal_steps": 5, "mean_before": 41 / 8, "mean_after": 39 / 8},
        **{"horizon_between_runs": (1 + 3) / 8, "steps_between_runs": (1 + 5 + 8) / 8},
        **{"horizon_between_seeds": (2 + 0 + 1 + 2) / 4, "steps_between_seeds": (20 + 0 + 10 + 4) / 4},
    }
    one_seed = {place: lane for place, lane in before.items() if place[2] == 0}
    assert same_lanes.compared(one_seed, one_seed)["horizon_between_seeds"] is None
    with pytest.raises(UserError, match="give runs of the same texts"):
        same_lanes.compared(before, one_seed)
