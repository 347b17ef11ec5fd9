import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.v2 import functional

from intel_scenes.data.resize import crop_resize_each, crop_resize_matrix, normalize, resize_center
from tests.data.pixels import MEAN, MODES, STD, boxes_of, gentle, interpolations, levels_apart, stored

# top, left, height, width in images of side 60: all of it, one pixel, corners, rows and columns, small and odd ones
BOXES = boxes_of(
    (0, 0, 60, 60), (59, 59, 1, 1), (0, 20, 40, 40), (37, 0, 23, 17), (5, 7, 3, 50), (10, 11, 45, 2), (20, 30, 11, 29)
)


@interpolations
@pytest.mark.parametrize("size", [16, 60, 90])
def test_each_crop_is_resized_as_torchvision_does(interpolation: str, size: int) -> None:
    images = stored(len(BOXES), 60)
    crops = crop_resize_each(images, BOXES, np.zeros(len(BOXES), bool), size, interpolation)
    assert crops.dtype == torch.uint8
    assert crops.is_contiguous(memory_format=torch.channels_last)
    for image, box, crop in zip(images, BOXES.tolist(), crops, strict=True):
        expected = functional.resized_crop(image, *box, [size, size], MODES[interpolation], antialias=True)
        assert levels_apart(crop, expected) <= 1


@interpolations
@pytest.mark.parametrize("size", [16, 60, 90])
def test_crops_by_matrices_are_those_of_torchvision_in_floating_point(interpolation: str, size: int) -> None:
    images = stored(len(BOXES), 60)
    flips = np.arange(len(BOXES)) % 2 == 1
    crops = crop_resize_matrix(images, BOXES, flips, size, interpolation)
    assert crops.dtype == torch.float32
    assert crops.is_contiguous(memory_format=torch.channels_last)
    for image, box, flip, crop in zip(images, BOXES.tolist(), flips, crops, strict=True):
        expected = functional.resized_crop(
            image.to(torch.float32), *box, [size, size], MODES[interpolation], antialias=True
        ).clamp(0, 255)
        if flip:
            expected = functional.horizontal_flip(expected)
        assert levels_apart(crop, expected) < 0.02


@interpolations
@pytest.mark.parametrize(
    ("side", "resize", "size"),
    [(150, 232, 224), (150, 146, 128), (150, 256, 224), (64, 64, 64), (64, 64, 49), (64, 48, 35), (64, 35, 35)],
)
def test_evaluation_equals_torchvisions_preset(interpolation: str, side: int, resize: int, size: int) -> None:
    images = gentle(stored(3, side))
    preset = ImageClassification(
        crop_size=size, resize_size=resize, mean=(0, 0, 0), std=(1, 1, 1), interpolation=MODES[interpolation]
    )
    seen = resize_center(images, resize, size, interpolation)
    assert seen.dtype == torch.uint8
    assert levels_apart(seen, preset(images) * 255) < 1.001
    assert normalize(seen, MEAN, STD).is_contiguous(memory_format=torch.channels_last)


@interpolations
def test_evaluation_is_close_to_the_preset_on_a_pillow_image(interpolation: str) -> None:
    images = stored(3, 150)
    preset = ImageClassification(crop_size=128, resize_size=146, mean=MEAN, std=STD, interpolation=MODES[interpolation])
    expected = torch.stack([preset(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    seen = normalize(resize_center(images, 146, 128, interpolation), MEAN, STD)
    assert (seen - expected).abs().max() < 1.01 / 255 / min(STD)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalization_is_that_of_torchvision(dtype: torch.dtype) -> None:
    images = stored(3, 20)
    expected = functional.normalize(functional.to_dtype(images, torch.float32, scale=True), list(MEAN), list(STD))
    seen = normalize(images.to(dtype), MEAN, STD)
    assert seen.dtype == torch.float32
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert (seen - expected).abs().max() < 1e-6


def test_images_in_row_order_are_normalized_into_channels_last_memory() -> None:
    images = stored(2, 20)
    seen = normalize(images.contiguous(), MEAN, STD)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(seen, normalize(images, MEAN, STD))


def test_images_in_floating_point_are_not_changed_by_their_normalization() -> None:
    images = stored(2, 24).to(torch.float32)
    before = images.clone()
    normalize(images, MEAN, STD)
    assert torch.equal(images, before)


def test_normalization_on_a_cpu_is_the_plain_arithmetic_to_the_last_bit() -> None:
    images = stored(5, 24)
    factor, offset = (
        torch.tensor(values)[:, None, None]
        for values in ([1 / (255 * s) for s in STD], [m / s for m, s in zip(MEAN, STD, strict=True)])
    )
    plain = images.to(torch.float32) * factor - offset
    assert torch.equal(normalize(images, MEAN, STD), plain)
    assert torch.equal(normalize(images.to(torch.float32), MEAN, STD), plain)
