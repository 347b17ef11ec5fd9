from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop, v2
from torchvision.transforms.v2 import functional

from intel_scenes.config import AugmentConfig
from intel_scenes.data.augment import (
    ATTEMPTS,
    NUM_DRAWS,
    augment,
    by_policy,
    crop_boxes,
    uniform_draws,
)
from intel_scenes.data.resize import crop_resize_each, crop_resize_matrix, normalize, resize_center
from tests.data.pixels import MEAN, MODES, STD, boxes_of, crops, gentle, interpolations, levels_apart, stored

IMAGENET = crops(scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5)
WHOLE = crops(scale=(1, 1), ratio=(1, 1), flip=0)


def uniform(num: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).random((num, NUM_DRAWS))


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_draws_are_uniform(seed: int) -> None:
    draws = uniform_draws(seed, 3, np.arange(4000), 8)
    assert draws.shape == (4000, 8)
    assert draws.dtype == np.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    for number in range(8):
        assert stats.kstest(draws[:, number], "uniform").pvalue > 1e-4


WORD = 2**64


def splitmix64(state: int) -> int:
    """An output of the generator of Steele et al. (2014), in whole numbers."""
    mixed = (state + 0x9E3779B97F4A7C15) % WORD
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % WORD
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % WORD
    return mixed ^ mixed >> 31


def test_draws_are_those_of_splitmix64_so_that_a_run_can_be_repeated_by_a_later_version() -> None:
    assert splitmix64(1234567) == 6457827717110365317  # published with the generator's C code
    for seed, epoch, index, number in ((7, 2, 5, 0), (7, 2, 5, 41), (0, 0, 0, 3), (2**40, 9, 14033, 45)):
        stream = splitmix64((splitmix64(splitmix64(seed) + epoch) + index) % WORD)
        expected = (splitmix64((stream + number * 0x9E3779B97F4A7C15) % WORD) >> 11) / 2**53
        assert uniform_draws(seed, epoch, np.array([index]), 46)[0, number] == expected


@pytest.mark.parametrize("place", [0, 1000, 10**6])
def test_neighbouring_images_draw_different_numbers(place: int) -> None:
    assert len(np.unique(uniform_draws(7, 0, place + np.arange(2000), 1))) == 2000


def test_draws_of_images_epochs_seeds_and_of_one_image_are_independent() -> None:
    indices = np.arange(3000)
    series = {
        "image": uniform_draws(1, 0, indices, 2)[:, 0],
        "the next image": uniform_draws(1, 0, indices + 1, 2)[:, 0],
        "the next epoch": uniform_draws(1, 1, indices, 2)[:, 0],
        "the next seed": uniform_draws(2, 0, indices, 2)[:, 0],
        "the next number": uniform_draws(1, 0, indices, 2)[:, 1],
    }
    correlations = np.corrcoef(list(series.values())) - np.eye(5)
    assert np.abs(correlations).max() < 5 / np.sqrt(3000)  # five standard errors


def test_seeds_and_epochs_do_not_share_draws() -> None:
    firsts = [uniform_draws(seed, epoch, np.arange(500), 1)[:, 0] for seed in range(20) for epoch in range(20)]
    assert len(np.unique(firsts)) == 200_000  # of 2**53 values; seed + epoch or epoch + image would collide


def test_an_images_numbers_do_not_depend_on_its_batch() -> None:
    alone = np.concatenate([uniform_draws(5, 2, np.array([index])) for index in (17, 3, 4000, 0)])
    assert np.array_equal(uniform_draws(5, 2, np.array([17, 3, 4000, 0])), alone)
    assert np.array_equal(uniform_draws(5, 2, np.arange(4001))[[17, 3, 4000, 0]], alone)


def test_more_draws_do_not_change_the_first_ones() -> None:
    assert np.array_equal(
        uniform_draws(5, 2, np.arange(9), NUM_DRAWS + 3)[:, :NUM_DRAWS], uniform_draws(5, 2, np.arange(9))
    )


def torchvision_boxes(augmentation: AugmentConfig, side: int, num: int) -> npt.NDArray[np.int64]:
    image = torch.empty(3, side, side, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scale, ratio = list(augmentation.scale), list(augmentation.ratio)
        return np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(num)])


@pytest.mark.parametrize(
    "augmentation",
    [
        IMAGENET,
        crops(scale=(0.35, 1), ratio=(0.75, 4 / 3), flip=0),
        crops(scale=(0.5, 1), ratio=(0.5, 3), flip=0),
        crops(scale=(0.9, 1), ratio=(1.05, 1.5), flip=0),
    ],
)
def test_boxes_are_distributed_as_those_of_torchvision(augmentation: AugmentConfig) -> None:
    ours, theirs = crop_boxes(uniform(6000), 150, augmentation), torchvision_boxes(augmentation, 150, 6000)
    for boxes in (ours, theirs):
        assert boxes[:, :2].min() >= 0
        assert boxes[:, 2:].min() >= 1
    measures = {
        "area": lambda top, left, height, width: height * width,
        "ratio": lambda top, left, height, width: width / height,
        "top": lambda top, left, height, width: top,
        "left": lambda top, left, height, width: left,
        "room below": lambda top, left, height, width: 150 - top - height,
        "place among those possible": lambda top, left, height, width: left / np.maximum(150 - width, 1),
    }
    for name, measure in measures.items():
        assert stats.ks_2samp(measure(*ours.T), measure(*theirs.T)).pvalue > 1e-3, name


@pytest.mark.parametrize("side", [1, 2, 7, 150])
def test_boxes_lie_inside_the_image(side: int) -> None:
    edges = np.where(uniform(4000, seed=1) < 0.5, 0, np.nextafter(1, 0))
    for draws in (uniform(4000), edges):
        boxes = crop_boxes(draws, side, crops(scale=(0.01, 1), ratio=(0.2, 5), flip=0))
        assert boxes[:, :2].min() >= 0
        assert boxes[:, 2:].min() >= 1
        assert (boxes[:, :2] + boxes[:, 2:]).max() <= side


@pytest.mark.parametrize(
    ("ratio", "box"),
    [
        ((2, 3), (25, 0, 50, 100)),  # 100 wide at twice the height
        ((0.2, 0.4), (0, 30, 100, 40)),  # 100 high at 0.4 of the width
        ((1.6, 1.6), (19, 0, 62, 100)),  # 62.5 rounds to even as in torchvision, and 38 / 2 rows are above
    ],
)
def test_the_largest_center_box_is_taken_if_no_candidate_fits(
    ratio: tuple[float, float], box: tuple[int, int, int, int]
) -> None:
    augmentation = crops(scale=(0.999, 1), ratio=ratio, flip=0)
    assert (crop_boxes(uniform(20), 100, augmentation) == box).all()
    assert (torchvision_boxes(augmentation, 100, 3) == box).all()


def test_the_first_candidate_that_fits_is_taken() -> None:
    draws = np.zeros((1, NUM_DRAWS))
    draws[0, :4] = [1 - 1e-9, 1 - 1e-9, 0.5, 0.5]  # all of the area at twice the width: too wide
    draws[0, 4:8] = [0.2, 0.5, 0.5, 0.999]  # area 2500 + 0.2 * 7500 = 4000, ratio 1: side 63
    draws[0, 8:12] = [0, 0.5, 0, 0]
    augmentation = crops(scale=(0.25, 1), ratio=(0.5, 2), flip=0)
    # top: floor(0.5 * 38), left: floor(0.999 * 38)
    assert crop_boxes(draws, 100, augmentation).tolist() == [[19, 37, 63, 63]]


@interpolations
def test_crops_on_cpu_and_accelerator_agree_within_rounding(interpolation: str) -> None:
    images = gentle(stored(64, 150))
    boxes = crop_boxes(uniform(64), 150, IMAGENET)
    each = crop_resize_each(images, boxes, np.zeros(len(boxes), bool), 96, interpolation)
    # Integer weights and a rounding after each direction leave a level or so.
    assert levels_apart(each, crop_resize_matrix(images, boxes, np.zeros(64, dtype=bool), 96, interpolation)) < 1.6


@pytest.mark.parametrize("flip", [0, 0.3, 1])
def test_images_are_flipped_horizontally_with_the_given_probability(flip: float) -> None:
    images, draws = stored(40, 24), uniform(2000)
    straight = augment(images, draws[:40], crops(IMAGENET.scale, IMAGENET.ratio, 0), 16, "bilinear")
    result = augment(images, draws[:40], crops(IMAGENET.scale, IMAGENET.ratio, flip), 16, "bilinear")
    is_straight = [torch.equal(one, other) for one, other in zip(result, straight, strict=True)]
    is_mirror = [torch.equal(one, other) for one, other in zip(result, straight.flip(-1), strict=True)]
    assert all(one != other for one, other in zip(is_straight, is_mirror, strict=True))
    many = augment(images[:1].expand(2000, -1, -1, -1), draws, crops((1, 1), (1, 1), flip), 24, "bilinear")
    num_mirrored = int((many != images[:1]).any(3).any(2).any(1).sum())
    assert stats.binomtest(num_mirrored, 2000, flip).pvalue > 1e-3


def test_the_flip_does_not_depend_on_the_box() -> None:
    draws = uniform(5000)
    boxes, flips = crop_boxes(draws, 150, IMAGENET), draws[:, 4 * ATTEMPTS] < 0.5
    assert stats.ks_2samp(boxes[flips, 1], boxes[~flips, 1]).pvalue > 1e-3
    assert stats.ks_2samp(boxes[flips, 3], boxes[~flips, 3]).pvalue > 1e-3


@interpolations
@pytest.mark.parametrize(("side", "size"), [(60, 32), (60, 90), (60, 60)])
def test_the_whole_image_without_flips_is_a_plain_resize(interpolation: str, side: int, size: int) -> None:
    images = stored(4, side)
    expected = functional.resize(images, [size, size], MODES[interpolation], antialias=True)
    assert levels_apart(augment(images, uniform(4), WHOLE, size, interpolation), expected) <= 1


@interpolations
@pytest.mark.parametrize("size", [24, 16])
def test_augmentation_does_not_change_the_stored_images(interpolation: str, size: int) -> None:
    """Also where the size stored is the size wanted, and a view would do."""
    images = stored(8, 24)
    before = images.clone()
    always_mirrored = crops(scale=(1, 1), ratio=(1, 1), flip=1)
    results = [
        augment(images, uniform(8), always_mirrored, size, interpolation),
        augment(images, uniform(8), WHOLE, size, interpolation),
        crop_resize_matrix(images, boxes_of(*[(0, 0, 24, 24)] * 8), np.zeros(8, dtype=bool), size, interpolation),
        normalize(resize_center(images, size, size, interpolation), MEAN, STD),
        normalize(resize_center(images, 24, size, interpolation), MEAN, STD),
    ]
    for result in results:
        result.zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [16, 224])
def test_crops_normalized_while_resized_are_identical_to_those_of_two_passes_on_any_number_of_threads(
    size: int, on_threads: Callable[[int], None]
) -> None:
    images, draws = stored(37, 150), uniform(37)
    augmentation = crops((0.3, 1.0), (3 / 4, 4 / 3), 0.5)
    expected = normalize(augment(images, draws, augmentation, size, "bilinear"), MEAN, STD)
    for num_threads in (1, 2, 4):
        on_threads(num_threads)
        seen = augment(images, draws, augmentation, size, "bilinear", (MEAN, STD))
        assert torch.equal(seen, expected)
        assert seen.is_contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            assert torch.equal(augment(images, draws, augmentation, size, "bilinear", (MEAN, STD)), expected)


@pytest.mark.parametrize(("policy", "operations"), [("trivial", v2.TrivialAugmentWide), ("rand", v2.RandAugment)])
def test_a_policy_depends_only_on_the_draw_of_each_image(policy, operations):
    images, draws = stored(8, 40), np.random.default_rng(1).random(8)
    before = torch.get_rng_state()
    changed = by_policy(images, draws, policy)
    assert torch.equal(torch.get_rng_state(), before)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(by_policy(images[3:5], draws[3:5], policy), changed[3:5])
    assert not torch.equal(by_policy(images, np.random.default_rng(2).random(8), policy), changed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws[3] * 2**53))
        expected = operations(interpolation=v2.InterpolationMode.BILINEAR)(images[3])
    assert torch.equal(changed[3], expected)


def test_a_policy_comes_before_the_crop():
    images, draws = stored(6, 40), uniform(6)
    seen = augment(images, draws, replace(IMAGENET, policy="trivial"), 24, "bilinear")
    assert torch.equal(seen, augment(by_policy(images, draws[:, -1], "trivial"), draws, IMAGENET, 24, "bilinear"))
    assert not torch.equal(seen, by_policy(augment(images, draws, IMAGENET, 24, "bilinear"), draws[:, -1], "trivial"))
