import numpy as np
import torch

from intel_scenes.data import buffers

SHAPE = (4, 17, 17, 3)


def filled(value: float) -> torch.Tensor:
    return buffers.channels_last(SHAPE, np.float32).fill_(value)


def test_a_batch_that_is_still_held_keeps_its_values() -> None:
    held = filled(1)[1:, :, 3]  # another tensor on the same memory
    others = [filled(2) for _ in range(buffers.NUM_BUFFERS + 2)]
    assert torch.equal(held, torch.ones(3, 3, 17))
    assert len({other.data_ptr() for other in others}) == len(others)


def test_memory_that_nobody_holds_is_used_again_for_the_same_shape_and_type_alone() -> None:
    buffers.forget()
    batch = filled(1)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    place = batch.data_ptr()
    of_integers = buffers.channels_last(SHAPE, np.uint8)
    assert of_integers.dtype == torch.uint8
    del batch
    assert buffers.channels_last((5, 17, 17, 3), np.float32).data_ptr() != place
    assert filled(2).data_ptr() == place
    buffers.forget()
    assert buffers._buffers == []


def test_what_the_graph_of_a_backward_pass_holds_is_not_used_again() -> None:
    buffers.forget()
    weight = torch.ones(1, requires_grad=True)
    loss = (filled(3) * weight).sum()  # the product keeps the batch, Python does not
    filled(7)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.item() == 3 * 4 * 17 * 17 * 3
