"""Transfer of tensors to a device."""

import torch
from torch import Tensor


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; to a GPU through pinned memory, because a copy from pageable memory waits for it."""
    if device.type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
