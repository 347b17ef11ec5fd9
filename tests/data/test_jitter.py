from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from intel_scenes.data.augment import NUM_DRAWS, augment, uniform_draws
from intel_scenes.data.jitter import NUM_DRAWS as NUM_JITTER_DRAWS
from intel_scenes.data.jitter import jitter, rotated
from intel_scenes.data.mixing import NUM_DRAWS as NUM_MIXING_DRAWS
from intel_scenes.data.mixing import Mixing, mix
from intel_scenes.data.pipelines import ImagePipeline, View
from intel_scenes.data.store import Batch
from tests.data.pixels import MEAN, STD, WHOLE, crops, levels_apart, stored

CROPS = crops((0.5, 1), (3 / 4, 4 / 3), 0.5)
ALL = replace(CROPS, rotate=20.0, brightness=0.4, contrast=0.4, saturation=0.4, vertical_flip=0.5)
PLACES = {"brightness": 1, "contrast": 2, "saturation": 3}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_colours_change_as_torchvision_changes_them(name, strength):
    images, draws = stored(9, 24), np.full((9, NUM_JITTER_DRAWS), 0.5)
    draws[:, PLACES[name]] = np.linspace(0, np.nextafter(1, 0), 9)  # the whole range, the middle of which is a 1
    changed = jitter(images, draws, replace(WHOLE, **{name: strength}))
    adjust = getattr(functional, f"adjust_{name}")
    for image, share, found in zip(images, np.linspace(-1, 1, 9), changed, strict=True):
        expected = 255 * adjust(image.to(torch.float32) / 255, 1 + strength * share)
        assert levels_apart(found, expected) < 1e-3
    assert levels_apart(changed[4], images[4]) < 1e-3
    assert levels_apart(changed[0], images[0]) > 10


@pytest.mark.parametrize("angle", [-90.0, -37.0, 5.0, 180.0])
def test_a_rotation_is_that_of_torchvision_and_at_the_corners_the_reflected_image_of_scipy(angle):
    images = stored(2, 33).to(torch.float32)
    turned = rotated(images, torch.tensor([angle, 0.0]))
    assert levels_apart(turned[1], images[1]) < 1e-2
    inside = (..., slice(8, 25), slice(8, 25))
    expected = functional.rotate(images[0], angle, InterpolationMode.BILINEAR)
    assert levels_apart(turned[0][inside], expected[inside]) < 1e-2
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix, middle = np.array([[cos, sin], [-sin, cos]]), np.array([16.0, 16.0])
    offset = middle - matrix @ middle
    for channel, found in zip(images[0].to(torch.float64).numpy(), turned[0], strict=True):
        whole = ndimage.affine_transform(channel, matrix, offset, order=1, mode="reflect")
        assert np.abs(found.numpy() - whole).max() < 1e-2


def test_angles_are_drawn_from_both_sides_and_colours_by_the_number_of_each_image():
    images, draws = stored(3, 24), np.random.default_rng(0).random((3, NUM_JITTER_DRAWS))
    draws[:, 0] = 0.0, 0.5, 0.75
    expected = rotated(images.to(torch.float32), torch.tensor([-30.0, 0.0, 15.0]))
    assert levels_apart(jitter(images, draws, replace(WHOLE, rotate=30.0)), expected) < 1e-2


def test_an_images_changes_do_not_depend_on_its_batch():
    images, draws = stored(8, 40), uniform_draws(3, 1, np.arange(8), NUM_DRAWS + NUM_JITTER_DRAWS)

    def seen(part):
        of_crop, of_jitter = draws[part, :NUM_DRAWS], draws[part, NUM_DRAWS:]
        return augment(images[part], of_crop, ALL, 24, "bilinear", (MEAN, STD), jitter_draws=of_jitter)

    together = seen(slice(0, 8))
    assert torch.equal(together, torch.cat([seen(slice(place, place + 1)) for place in range(8)]))
    assert together.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("flip", [0.3, 1.0])
def test_images_are_flipped_vertically_with_the_given_probability(flip):
    images, draws = stored(1, 12).expand(2000, -1, -1, -1), np.random.default_rng(0).random((2000, NUM_DRAWS))
    of_jitter = np.random.default_rng(1).random((2000, NUM_JITTER_DRAWS))
    seen = augment(images, draws, replace(WHOLE, vertical_flip=flip), 12, "bilinear", jitter_draws=of_jitter)
    is_straight, is_flipped = (
        (seen == expected).all(3).all(2).all(1) for expected in (images, functional.vertical_flip(images))
    )
    assert torch.equal(is_flipped, ~is_straight)
    assert stats.binomtest(int(is_flipped.sum()), 2000, flip).pvalue > 1e-3
    assert torch.equal(images, stored(1, 12).expand(2000, -1, -1, -1))


def test_jitter_does_not_change_the_draws_of_crops_and_mixing():
    images, labels, indices = stored(6, 40), torch.arange(6) % 3, np.array([5, 900, 2, 17, 4, 3])
    view = View(size=24, resize=24, interpolation="bilinear", mean=MEAN, std=STD)
    draws = uniform_draws(7, 2, indices, NUM_DRAWS + NUM_MIXING_DRAWS)
    assert (NUM_DRAWS, NUM_MIXING_DRAWS) == (42, 4)
    plain = augment(images, draws[:, :NUM_DRAWS], CROPS, 24, "bilinear", (MEAN, STD))
    mixing = Mixing(0.2, 1.0)
    mixed, targets = ImagePipeline(view, CROPS, mixing, 1, seed=7).train_batch(
        Batch(images, labels, indices), epoch=2, size=24, num_classes=3
    )
    expected = mix(plain, labels, draws[:, NUM_DRAWS:], mixing, 3)
    assert torch.equal(mixed, expected[0])
    assert torch.equal(targets, expected[1])
    later = uniform_draws(7, 2, indices, NUM_DRAWS + NUM_MIXING_DRAWS + NUM_JITTER_DRAWS)[:, -NUM_JITTER_DRAWS:]
    changed, _ = ImagePipeline(view, ALL, Mixing(0, 0), 1, seed=7).train_batch(
        Batch(images, labels, indices), epoch=2, size=24, num_classes=3
    )
    by_hand = augment(images, draws[:, :NUM_DRAWS], ALL, 24, "bilinear", (MEAN, STD), jitter_draws=later)
    assert torch.equal(changed, by_hand)
    assert not torch.equal(changed, plain)
