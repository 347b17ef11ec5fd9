"""Where batches lie: memory on the CPU that is used again, and the way to a device.

Fresh memory is cleared first, which costs as much as a resize.
"""

import sys

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NUM_BUFFERS = 6  # what an epoch of training needs, as stored and as seen, each while the one before it is still in use

_buffers: list[npt.NDArray[np.generic]] = []


def channels_last(shape: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
    """An uninitialized batch (B, C, H, W) for a `shape` (B, H, W, C), in memory that nobody holds any more, if any.

    To be asked for by one thread alone.
    """
    for position in range(len(_buffers)):
        # A tensor holds the array that it was made from for as long as its memory is used, by whomever.
        is_free = sys.getrefcount(_buffers[position]) == 2  # the list, and the argument of this call
        if is_free and _buffers[position].shape == shape and _buffers[position].dtype == dtype:
            return torch.from_numpy(_buffers[position]).permute(0, 3, 1, 2)
    _buffers.insert(0, np.empty(shape, dtype))
    del _buffers[NUM_BUFFERS:]
    return torch.from_numpy(_buffers[0]).permute(0, 3, 1, 2)


def forget() -> None:
    """Lets go of all memory, so that a later run does not count it as its own."""
    _buffers.clear()


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; a GPU copies pinned ones in their turn, others only after all that it still has to do."""
    if device.type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
