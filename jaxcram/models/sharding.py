"""The sharding of a decoder's weights over a mesh.

Over `model`, matrix products are sharded by the table of the family (`DecoderConfig.cuts`): projections that
read the residual stream along their output axis, those that write to it along their input axis, embedding and
head along the vocabulary. Attention is sharded by heads. Key and value heads, or a vocabulary, that are not
divisible by the axis are replicated. Query heads and the MLP width must be divisible, or little of the model
would be sharded.

Over `fsdp`, only the storage is sharded: every weight along its longest divisible axis (Zhao et al. 2023,
"PyTorch FSDP"; Rajbhandari et al. 2020, ZeRO stage 3).
"""

from collections.abc import Mapping

from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcram.devices.mesh import FSDP, MODEL
from jaxcram.errors import UserError
from jaxcram.models.config import Cut, DecoderConfig


def shardings(
    config: DecoderConfig, shapes: Mapping[str, tuple[int, ...]], mesh: Mesh
) -> dict[str, NamedSharding]:
    """The sharding of every parameter, by its path in the decoder.

    Args:
        config: of the decoder.
        shapes: of its parameters by path; those of layers have a leading layer axis, which is not sharded.
        mesh: the devices.

    Raises:
        UserError: heads or MLP width are not divisible by the `model` axis.
    """
    size = mesh.shape[MODEL]
    if size > 1:
        for name in ("num_heads", "mlp_width"):
            if getattr(config, name) % size:
                raise UserError(
                    f"mesh model:{size}: does not divide the model's {name}, {getattr(config, name)}; "
                    "choose a divisor of it, or fsdp"
                )
    found = {}
    for path, shape in shapes.items():
        stacked = path.startswith("layers.")
        if mesh.shape[FSDP] > 1:
            axis = _longest(shape, int(stacked), mesh.shape[FSDP])
            name = FSDP
        else:
            axis = _cut(config, config.cuts[path], size)
            axis, name = None if axis is None else axis + stacked, MODEL
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, name)
        found[path] = NamedSharding(mesh, spec)
    return found


def _longest(shape: tuple[int, ...], first: int, size: int) -> int | None:
    """The longest axis from `first` on that is divisible by `size`, or None."""
    dividing = [axis for axis in range(first, len(shape)) if shape[axis] % size == 0]
    return max(dividing, key=lambda axis: shape[axis], default=None)


def _cut(config: DecoderConfig, cut: Cut | None, size: int) -> int | None:
    if cut is None or size == 1 or getattr(config, cut.pieces) % size:
        return None
    return cut.axis
