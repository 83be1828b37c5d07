"""A profiler trace of a few chunks in the midst of a run: where the time of a pass goes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Self

import jax

from jaxcram.errors import UserError
from jaxcram.results.disk import writing_through

FIRST = 2  # chunks before the trace: the first ones compile
COUNT = 3  # chunks in it
_LOGGER = logging.getLogger("jaxcram")


class Profile:
    """While open, traces the chunks after the first `FIRST`; for TensorBoard, XProf or Perfetto.

    Operations carry the scope they belong to: embed, attention, mlp, head, select or optimiser.

    Args:
        directory: where the trace goes; None traces nothing.

    Raises:
        UserError: the directory cannot be made.
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
                    f"profile_dir {directory}: cannot be made ({error.strerror}); choose another"
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        if self._directory is not None and self._chunks <= FIRST:
            _LOGGER.warning(
                "no passes in the trace in %s: it begins after %d chunks of them, and there were %d",
                *(self._directory, FIRST, self._chunks),
            )

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            with writing_through(Path(self._directory or "")):
                jax.profiler.stop_trace()

    def after_chunk(self) -> None:
        """Count a chunk, and begin or end the trace where it is time."""
        self._chunks += 1
        if self._directory is not None and self._chunks == FIRST:
            try:
                jax.profiler.start_trace(self._directory)
            except RuntimeError as error:
                raise UserError(
                    f"profile_dir {self._directory}: JAX cannot trace ({error}); leave it out, or stop "
                    "the other trace"
                ) from error
            self._tracing = True
        elif self._chunks == FIRST + COUNT:
            self._stop()
