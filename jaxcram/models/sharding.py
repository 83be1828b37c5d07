"""Where each weight of a decoder lies on a mesh.

Over `model`, products are cut, by the table of the family (`DecoderConfig.cuts`): projections that read the
residual stream by their output, those that write to it by their input, embedding and head by the vocabulary.
Attention is cut by heads. Key and value heads fewer than the devices stay whole, and so does a vocabulary
that does not divide; heads and the width of the MLP have to divide, or little of the model would be cut.

Over `fsdp`, nothing but storage is cut: every weight along its longest axis that divides (Zhao et al. 2023,
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
        shapes: of its parameters by path; those of layers have a leading layer axis, which is never cut.
        mesh: the devices.

    Raises:
        UserError: heads or MLP width are no multiple of the `model` axis.
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
    """The longest axis from `first` on that divides, None if none does."""
    dividing = [axis for axis in range(first, len(shape)) if shape[axis] % size == 0]
    return max(dividing, key=lambda axis: shape[axis], default=None)


def _cut(config: DecoderConfig, cut: Cut | None, size: int) -> int | None:
    if cut is None or size == 1 or getattr(config, cut.pieces) % size:
        return None
    return cut.axis
