"""A profiler trace of a few chunks of a run, which shows where the time of a pass goes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Self

import jax

from jaxcram.errors import UserError
from jaxcram.results.disk import writing_through

FIRST = 2  # chunks before the trace, since the first ones compile
COUNT = 3  # chunks in the trace
_LOGGER = logging.getLogger("jaxcram")


class Profile:
    """Traces `COUNT` chunks after the first `FIRST`, while the context is open.

    The trace is for TensorBoard, XProf or Perfetto. Operations are grouped by scope: embed, attention, mlp,
    head, select and optimiser.

    Args:
        directory: of the trace; None traces nothing.

    Raises:
        UserError: the directory cannot be created.
    """

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._chunks = 0
        self._tracing = False
        if directory is not None:
            try:
                Path(directory).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"profile_dir {directory}: cannot be created ({error.strerror}); choose another"
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        if self._directory is not None and self._chunks <= FIRST:
            _LOGGER.warning(
                "the trace in %s has no passes: it begins after %d chunks, and the run had %d",
                *(self._directory, FIRST, self._chunks),
            )

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            with writing_through(Path(self._directory or "")):
                jax.profiler.stop_trace()

    def after_chunk(self) -> None:
        """Count a chunk; begin or end the trace if it is due."""
        self._chunks += 1
        if self._directory is not None and self._chunks == FIRST:
            try:
                jax.profiler.start_trace(self._directory)
            except RuntimeError as error:
                raise UserError(
                    f"profile_dir {self._directory}: JAX cannot trace ({error}); omit it, or stop the "
                    "other trace"
                ) from error
            self._tracing = True
        elif self._chunks == FIRST + COUNT:
            self._stop()
