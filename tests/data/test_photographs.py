"""Photographs of all shapes, stored whole: beside what torchvision makes of the files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision import models
from torchvision.transforms import RandomResizedCrop, v2
from torchvision.transforms.v2 import functional

from intel_scenes.config import AugmentConfig, ModelConfig
from intel_scenes.data import store
from intel_scenes.data.augment import ATTEMPTS, NUM_DRAWS, augment, by_policy, crop_boxes, uniform_draws
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.pipelines import View
from intel_scenes.data.resize import crop_resize_matrix
from intel_scenes.data.sources import Folder
from intel_scenes.training.build import view_of
from tests.data.pixels import MEAN, MODES, STD, crops, gentle, interpolations, levels_apart, pipeline
from tests.small import asked

# Heights and widths: landscape, portrait, square, just off, smaller than what is stored, and longer than 2:1.
SIZES = [(300, 400), (333, 500), (480, 320), (256, 256), (231, 233), (90, 131), (200, 1403), (903, 210), (240, 480)]
VIEW = View(size=24, resize=28, interpolation="bilinear", mean=MEAN, std=STD)
CROPS = crops(scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5)
Sizes = npt.NDArray[np.int64]


def photograph(height: int, width: int, seed: int) -> Image.Image:
    """Blurred noise with sharp edges; no row or column is like another."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (11, 13, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    pixels[height // 3 : height // 2, width // 4 : width // 2] = generator.integers(0, 256, 3)
    pixels[:, width // 5] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for split, first in (("seg_train", 0), ("seg_test", 100)):
        for number, size in enumerate(SIZES):
            for name, kind in (("a", "jpg"), ("b", "png")):
                place = folder / split / name
                place.mkdir(parents=True, exist_ok=True)
                photograph(*size, seed=first + number + 50 * (name == "b")).save(place / f"{number}.{kind}")
    return folder


@dataclass(frozen=True)
class Maker:
    root: Path
    cache: Path

    def __call__(self, view: View = VIEW, **changes: object) -> SceneDataModule:
        arguments: dict[str, Any] = {
            "train_sizes": [view.size],
            "batch_size": 4,
            "seed": 1,
            "val_fraction": 0.2,
            "split_seed": 0,
            "store_size": view.resize,
            "store_rule": "whole",
            "cache_dir": self.cache,
        }
        data = SceneDataModule(Folder(self.root), pipeline(view, CROPS), **arguments | changes)
        data.setup()
        return data


@pytest.fixture
def make(root: Path, tmp_path: Path) -> Maker:
    return Maker(root, tmp_path / "cache")


def opened(data: SceneDataModule) -> list[Image.Image]:
    return [Image.open(data.splits.test_scenes.root / path).convert("RGB") for path in data.splits.test_scenes.paths]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", "IMAGENET1K_V2"),  # 232, 224
        ("mobilenet_v2", "IMAGENET1K_V1"),  # 256, 224
        ("swin_t", "IMAGENET1K_V1"),  # 232, 224, bicubic
        ("inception_v3", "IMAGENET1K_V1"),  # 342, 299: an odd margin
        ("efficientnet_v2_s", "IMAGENET1K_V1"),  # 384, 384
        ("regnet_y_16gf", "IMAGENET1K_SWAG_E2E_V1"),  # 384, 384, bicubic
    ],
)
def test_evaluation_equals_the_transforms_of_the_weights(name: str, weights: str, make: Maker) -> None:
    transforms = models.get_model_weights(name)[weights].transforms()
    view = view_of(ModelConfig(name, weights), asked("data=folder").data)
    data = make(view)
    expected = torch.stack([transforms(image) for image in opened(data)])
    seen = [data.pipeline.eval_view(batch.images) for batch in data.eval_batches("test")]
    torch.testing.assert_close(torch.cat(seen).contiguous(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("resize", "size"), [(28, 24), (29, 24), (31, 24), (33, 24), (27, 24), (24, 24), (26, 23)])
def test_the_center_crop_of_evaluation_equals_torchvisions_for_odd_margins(resize: int, size: int, make: Maker) -> None:
    data = make(replace(VIEW, resize=resize, size=size))
    for image, stored in zip(opened(data), data.test_images.squares(data.splits.test).images, strict=True):
        resized = functional.resize(image, [resize])
        expected = functional.pil_to_tensor(functional.center_crop(resized, [size, size]))
        begin = round((resize - size) / 2)
        assert torch.equal(stored[:, begin : begin + size, begin : begin + size], expected)


def pictures(data: SceneDataModule) -> list[Tensor]:
    """The test images as they are stored, (3, H, W) each."""
    images, _, _, sizes, *_ = data.test_images.batch(data.splits.test)
    assert sizes is not None
    assert images.shape[-2:] == tuple(sizes.max(0))
    return [image[:, :height, :width] for image, (height, width) in zip(images, sizes, strict=True)]


@interpolations
def test_the_whole_of_a_photograph_is_stored_as_torchvision_resizes_it(interpolation: str, make: Maker) -> None:
    data = make(replace(VIEW, interpolation=interpolation))
    for image, stored in zip(opened(data), pictures(data), strict=True):
        expected = functional.pil_to_tensor(functional.resize(image, [28], MODES[interpolation]))
        height, width = expected.shape[-2:]
        if max(height, width) <= 2 * 28:
            assert torch.equal(stored, expected)
        else:  # the middle
            top, left = (height - stored.shape[1]) // 2, (width - stored.shape[2]) // 2
            assert torch.equal(stored, expected[:, top : top + stored.shape[1], left : left + stored.shape[2]])
            assert 2 * 28 <= max(stored.shape[1:]) <= 2 * 28 + 3


def drawn_by_torchvision(augmentation: AugmentConfig, height: int, width: int, num: int) -> Sizes:
    image = torch.empty(3, height, width, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scale, ratio = list(augmentation.scale), list(augmentation.ratio)
        return np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(num)])


@pytest.mark.parametrize(("height", "width"), [(100, 160), (160, 100), (60, 118)])
def test_crops_are_distributed_as_those_of_torchvision_and_reach_all_edges(height: int, width: int) -> None:
    draws = np.random.default_rng(0).random((6000, NUM_DRAWS))
    ours = crop_boxes(draws, np.array([[height, width]] * 6000), CROPS)
    theirs = drawn_by_torchvision(CROPS, height, width, 6000)
    for place in range(4):
        assert stats.ks_2samp(ours[:, place], theirs[:, place]).pvalue > 1e-3
    assert ours[:, :2].min(0).tolist() == [0, 0]
    assert (ours[:, :2] + ours[:, 2:]).max(0).tolist() == [height, width]


@pytest.mark.parametrize(("height", "width"), [(100, 300), (300, 100), (100, 110)])
@pytest.mark.parametrize("ratio", [(1, 1), (0.8, 1.05), (1.6, 1.7), (0.4, 0.5)])
def test_the_largest_center_crop_is_taken_if_none_fits(height: int, width: int, ratio: tuple[float, float]) -> None:
    augmentation = crops(scale=(0.9999, 1), ratio=ratio, flip=0)
    draws = np.random.default_rng(0).random((5, NUM_DRAWS))
    (expected,) = {tuple(box) for box in drawn_by_torchvision(augmentation, height, width, 5)}
    assert {tuple(box) for box in crop_boxes(draws, np.array([[height, width]] * 5), augmentation)} == {expected}


def test_a_box_of_each_shape_is_that_of_its_image_alone() -> None:
    sizes, draws = np.array(SIZES), np.random.default_rng(0).random((len(SIZES), NUM_DRAWS))
    alone = [crop_boxes(draws[[n]], sizes[[n]], CROPS)[0] for n in range(len(SIZES))]
    assert np.array_equal(crop_boxes(draws, sizes, CROPS), alone)


@interpolations
def test_training_sees_crops_of_the_whole_photograph(interpolation: str, make: Maker) -> None:
    data = make(replace(VIEW, interpolation=interpolation))
    batch = data.images.batch(data.splits.train)
    indices, sizes = batch.indices, batch.sizes
    assert sizes is not None
    draws = uniform_draws(data.seed, 0, indices)
    boxes, flips = crop_boxes(draws, sizes, CROPS), draws[:, 4 * ATTEMPTS] < 0.5
    seen, _ = data.pipeline.train_batch(batch, epoch=0, size=24, num_classes=2)
    assert flips.any()
    assert not flips.all()
    for index, box, flip, found in zip(indices, boxes.tolist(), flips, seen, strict=True):
        image = Image.open(data.splits.scenes.root / data.splits.scenes.paths[index]).convert("RGB")
        resized = functional.pil_to_tensor(functional.resize(image, [28], MODES[interpolation]))
        box[0] += (resized.shape[1] - sizes[list(indices).index(index)][0]) // 2  # of the middle of a panorama
        box[1] += (resized.shape[2] - sizes[list(indices).index(index)][1]) // 2
        crop = functional.resized_crop(resized, *box, [24, 24], MODES[interpolation], antialias=True)
        expected = functional.normalize((crop.flip(-1) if flip else crop) / 255, MEAN, STD)
        assert levels_apart(found, expected) < 1.01 / 255 / min(STD)


@pytest.mark.parametrize("policy", [None, "trivial", "rand"])
def test_padding_is_never_seen(policy: str | None, make: Maker) -> None:
    data = make()
    images, _, indices, sizes, *_ = data.test_images.batch(data.splits.test)
    assert sizes is not None
    draws, results, matrices = uniform_draws(1, 0, indices), [], []
    for beside in (0, 255):
        padded = torch.full_like(images, beside)
        for place, (height, width) in enumerate(sizes):
            padded[place, :, :height, :width] = images[place, :, :height, :width]
        results.append(augment(padded, draws, replace(CROPS, policy=policy), 24, "bilinear", sizes=sizes))
        boxes = crop_boxes(draws, sizes, CROPS)
        matrices.append(crop_resize_matrix(padded, boxes, np.zeros(len(boxes), bool), 24, "bilinear"))
    assert torch.equal(*results)
    assert torch.equal(*matrices)


def test_a_policy_changes_the_image_but_not_its_padding(make: Maker) -> None:
    data = make()
    images, _, indices, sizes, *_ = data.test_images.batch(data.splits.test)
    draws = np.random.default_rng(0).random(len(indices))
    changed = by_policy(images, draws, "rand", sizes)
    for picture, seed, found in zip(pictures(data), draws, changed, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed * 2**53))
            expected = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)(picture)
        assert torch.equal(found[:, : picture.shape[1], : picture.shape[2]], expected)


@interpolations
def test_crops_on_cpu_and_accelerator_agree_on_whole_images(interpolation: str, make: Maker) -> None:
    data = make()
    images, _, indices, sizes, *_ = data.test_images.batch(data.splits.test)
    assert sizes is not None
    draws = uniform_draws(1, 0, indices)
    flips = draws[:, 4 * ATTEMPTS] < 0.5
    each = augment(gentle(images), draws, CROPS, 24, interpolation, sizes=sizes)
    boxes = crop_boxes(draws, sizes, CROPS)
    assert levels_apart(each, crop_resize_matrix(gentle(images), boxes, flips, 24, interpolation)) < 1.6


def test_both_ways_to_gather_whole_images_are_identical(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make()
    ours, squares = pictures(data), data.test_images.squares(data.splits.test).images.clone()
    monkeypatch.setattr(store, "_gather_on_cpu", store._gather_by_index)  # which runs on any device
    for one, other in zip(ours, pictures(data), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(data.test_images.squares(data.splits.test).images, squares)
    on_meta = data.on(torch.device("meta"))  # would refuse a copy back
    assert on_meta.images.batch(data.splits.train).images.shape == data.images.batch(data.splits.train).images.shape


def test_a_batch_may_hold_a_photograph_several_times(make: Maker) -> None:
    data = make()
    expected = [image.clone() for image in pictures(data)]
    chosen = np.tile(data.splits.test, 4)
    images, labels, *_ = data.test_images.batch(chosen)
    for place, image in enumerate(images):
        one = expected[place % len(expected)]
        assert torch.equal(image[:, : one.shape[1], : one.shape[2]], one)
    assert labels.tolist() == data.splits.test_scenes.labels[chosen].tolist()


def test_unreadable_whole_images_do_not_displace_the_others(root: Path, tmp_path: Path) -> None:
    for split in ("seg_train", "seg_test"):
        for path in (root / split).rglob("*.*"):
            place = tmp_path / "images" / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes()[:100] if path.stem in ("0", "4") else path.read_bytes())
    whole, less = (
        Maker(root, tmp_path / "cache")(),
        Maker(tmp_path / "images", tmp_path / "cache")(on_unreadable="skip"),
    )
    assert len(less.splits.test) == len(whole.splits.test) - 4
    kept = [index for index, path in enumerate(whole.splits.test_scenes.paths) if path in less.splits.test_scenes.paths]
    for one, other in zip(pictures(less), [pictures(whole)[index] for index in kept], strict=True):
        assert torch.equal(one, other)


def test_another_size_or_interpolation_is_another_cache(make: Maker) -> None:
    for count, view in enumerate((VIEW, replace(VIEW, interpolation="bicubic"), replace(VIEW, resize=30)), start=1):
        data = make(view)
        assert len([path for path in make.cache.iterdir() if path.is_dir()]) == 2 * count
        assert (data.store_rule, data.store_size) == ("whole", view.resize)
