import numpy as np
import pytest
import torch

from intel_scenes.data.store import Stored

NUM = 100


@pytest.fixture
def images() -> Stored:
    """Image i shows i everywhere, has label i % 7, and lies in row 2 i + 1 of the pixels."""
    pixels = np.zeros((2 * NUM + 1, 4, 4, 3), dtype=np.uint8)
    pixels[1::2] = np.arange(NUM)[:, None, None, None]
    return Stored(torch.from_numpy(pixels), torch.arange(NUM) % 7, 2 * torch.arange(NUM) + 1)


def test_a_batch_holds_the_chosen_images_in_channels_last_memory() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    rows = torch.tensor([0, 2, 4])  # two in between cannot be decoded
    images = Stored(torch.from_numpy(pixels), torch.tensor([4, 5, 6]), rows)
    found, labels, indices, sizes, *_ = images.batch(np.array([2, 0]))
    assert found.dtype == torch.uint8
    assert found.shape == (2, 3, 6, 6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(found.numpy(), pixels[[4, 0]].transpose(0, 3, 1, 2))
    assert labels.tolist() == [6, 4]
    assert labels.dtype == torch.int64
    assert indices.tolist() == [2, 0]
    assert sizes is None


def test_a_batch_holds_the_chosen_images_in_their_order(images: Stored) -> None:
    chosen = np.random.default_rng(0).permutation(NUM)
    batch = images.batch(chosen)
    assert batch.images[:, 0, 0, 0].tolist() == batch.indices.tolist() == chosen.tolist()
    assert batch.labels.tolist() == [index % 7 for index in chosen]


def test_writing_into_a_batch_does_not_change_the_stored_images(images: Stored) -> None:
    before = images.values.clone()
    batch = images.batch(np.arange(5))
    batch.images.zero_()
    batch.labels.zero_()
    assert torch.equal(images.values, before)
    assert images.labels[:5].tolist() == [0, 1, 2, 3, 4]
