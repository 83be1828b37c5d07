"""Endless short stories for children, each made from a seed.

`story(seed)` is the same text on every machine.  Seeds below `HELD_OUT_SEED` are for training models;
cramming uses seeds from `HELD_OUT_SEED` on, which no model has been trained on.
"""

from jaxcram.text.stories.teller import HELD_OUT_SEED, stories, story

__all__ = ["HELD_OUT_SEED", "stories", "story"]
