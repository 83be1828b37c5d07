"""An engine as `jaxcram.cram.run` makes it."""

from jaxcram.cram.engine import Engine
from jaxcram.cram.fit import fit_run
from jaxcram.cram.start import jobs_of


def engine(model, samples, settings, jobs=None, saved=None):
    """The engine of a run of all samples, fitted to its devices."""
    jobs = jobs_of(samples, settings) if jobs is None else jobs
    fit = fit_run(model, settings, [len(sample.tokens) for sample in samples])
    return Engine(model, samples, settings, jobs, fit, saved)
