"""The tensors in a checkpoint's safetensors files: their headers, and their values in pieces."""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxcram import documents
from jaxcram.errors import UserError

STORED_DTYPES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json", "adapter_model.safetensors"  # of PEFT; an adapter changes the weights
_PIECE = 1 << 22  # values read at a time
_CACHED = 1 << 16  # values checked at a time, so that they stay in the processor's cache

Bounds = tuple[tuple[int, int], ...]  # of a block in an array: (start, stop) along each axis


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in a safetensors file; `offset` is that of its first byte in the file."""

    file: Path
    name: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def pieces(self, bounds: Bounds = ()) -> Iterator[np.ndarray]:
        """Yields the values within `bounds` (by default all) in order, as flat arrays of limited size."""
        # Not by a memory map, whose pages would count as memory of this process until it is closed.
        with open(self.file, "rb") as stream:
            for start, left in self._runs(bounds or tuple((0, size) for size in self.shape)):
                stream.seek(self.offset + start * self.dtype.itemsize)
                while left:
                    piece = np.fromfile(stream, self.dtype, min(left, _PIECE))
                    if not piece.size:
                        raise UserError(f"{self.file}: ends within the tensor {self.name}; download it again")
                    left -= piece.size
                    yield piece

    def _runs(self, bounds: Bounds) -> Iterable[tuple[int, int]]:
        """(start, count) of the contiguous values in the file that `bounds` of a vector or matrix cover."""
        (first, last), *columns = bounds
        width = math.prod(self.shape[1:])
        if not columns or columns[0] == (0, width):
            return [(first * width, (last - first) * width)]
        ((left, right),) = columns
        return ((row * width + left, right - left) for row in range(first, last))

    def equals(self, other: "Tensor") -> bool:
        """Whether both hold the same values."""
        pairs = zip(self.pieces(), other.pieces(), strict=False)
        readable = self.shape == other.shape and self.dtype in STORED_DTYPES.values()
        return readable and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    def read_into(self, out: np.ndarray, bounds: Bounds) -> None:
        """Fills `out` (contiguous) with the values within `bounds`, cast to its dtype.

        Raises:
            UserError: a value is not finite, or overflows in the cast.
        """
        flat, start = out.reshape(-1), 0
        with np.errstate(over="ignore"):  # reported below
            for piece in self.pieces(bounds):
                flat[start : start + piece.size] = piece
                start += piece.size
        if not _finite(flat):
            if all(map(_finite, self.pieces(bounds))):
                reason = f"has values beyond the range of {out.dtype}; choose dtype float32"
            else:
                reason = "has values that are not finite (NaN or infinity); save or download it again"
            raise UserError(f"{self.file}: {self.name} {reason}")


def open_tensors(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name; only headers are read.

    Raises:
        UserError: there are no weights, more than one checkpoint, or incomplete files.
    """
    weight_map = _weight_map(directory)
    if weight_map is None:
        files = [directory / _SINGLE]
    else:
        files = [directory / file for file in sorted(set(weight_map.values()))]
    _require_one_checkpoint(directory, {file.name for file in files})
    tensors: dict[str, Tensor] = {}
    for tensor in itertools.chain.from_iterable(map(_read_header, files)):
        if twice := tensors.get(tensor.name):
            raise UserError(
                f"{directory}: {tensor.name} is both in {twice.file.name} and in {tensor.file.name}; "
                "keep the files of one checkpoint"
            )
        tensors[tensor.name] = tensor
    listed = (weight_map or {}).items()
    absent = [name for name, file in listed if name not in tensors or tensors[name].file.name != file]
    if absent:
        raise UserError(
            f"{directory / _INDEX}: lists tensors that its files do not have: {', '.join(absent)}"
        )
    return tensors


def _weight_map(directory: Path) -> dict[str, str] | None:
    """The file of each tensor, from the index of a checkpoint; None if it is a single file."""
    index = directory / _INDEX
    if not index.is_file():
        if (directory / _SINGLE).is_file():
            return None
        if shards := _candidates(directory):
            raise UserError(f"{directory}: has {', '.join(shards)}, but no {_INDEX}; give a whole checkpoint")
        if any(directory.glob("*.bin")) or any(directory.glob("*.pt")):
            raise UserError(
                f"{directory}: has only pickled weights, which are never opened; convert them to safetensors"
            )
        raise UserError(f"{directory}: has neither {_SINGLE} nor its index; give a whole checkpoint")
    weight_map = read_json(index).get("weight_map")
    values = weight_map.values() if isinstance(weight_map, dict) else [None]
    if not all(isinstance(file, str) and file == Path(file).name for file in values):
        raise UserError(f"{index}: the field weight_map should map tensor names to files beside it")
    return weight_map


def _require_one_checkpoint(directory: Path, used: set[str]) -> None:
    """Refuses further weights in the directory: leftovers of another save, or an adapter."""
    others = [file for file in _candidates(directory) if file not in used]
    if others:
        by_index = f"{_INDEX} with {', '.join(sorted(used))}" if used != {_SINGLE} else _SINGLE
        raise UserError(
            f"{directory}: more than one checkpoint: {by_index}, and {', '.join(others)}; "
            "remove the one that is not meant (with its index)"
        )
    adapter = next((file for file in _ADAPTER if (directory / file).exists()), None)
    if adapter:
        raise UserError(
            f"{directory}: has the adapter {adapter} beside {', '.join(sorted(used))}; merge it into the "
            "weights, or remove it"
        )


def _candidates(directory: Path) -> list[str]:
    """The files that transformers would load as the model's weights, by their names."""
    return sorted(
        name for name in os.listdir(directory) if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", name)
    )


def _read_header(file: Path) -> Iterator[Tensor]:
    """The tensors of one safetensors file: 8 bytes of header length, the header as JSON, then the values."""
    try:
        documents.require_file(file)
        with open(file, "rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            if header_bytes > documents.MOST_BYTES:
                raise ValueError(f"a header of {header_bytes} bytes; at most {documents.MOST_BYTES} are read")
            with safe_open(file, framework="numpy"):
                pass  # the library checks the header, and that the file is complete
            header = documents.parse(stream.read(header_bytes))
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{file}: not a complete safetensors file ({error}); download it again") from error
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = STORED_DTYPES.get(entry["dtype"], np.dtype(np.void))
        yield Tensor(file, name, 8 + header_bytes + entry["data_offsets"][0], dtype, tuple(entry["shape"]))


def _finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite, that is, has all exponent bits set.

    `np.isfinite` takes three times as long, and ten times for bf16.
    """
    unsigned = np.dtype(f"u{values.itemsize}")
    bits, exponent = values.view(unsigned), np.asarray(np.inf, values.dtype).view(unsigned)
    parts = (bits[start : start + _CACHED] for start in range(0, bits.size, _CACHED))
    return not any((part & exponent == exponent).any() for part in parts)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint; raises UserError."""
    try:
        return documents.read_object(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}); download it again") from error
