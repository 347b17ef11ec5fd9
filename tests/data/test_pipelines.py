import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms.v2 import functional

from intel_scenes.data.pipelines import FeaturePipeline, View, size_of
from intel_scenes.data.store import Batch
from tests.data.pixels import pipeline


def test_evaluation_equals_torchvisions_preprocessing() -> None:
    generator = np.random.default_rng(0)
    pixels: npt.NDArray[np.uint8] = generator.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    view = View(size=24, resize=30, interpolation="bilinear", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    resized = functional.center_crop(functional.resize(images, [30, 30], antialias=True), [24, 24])
    expected = functional.normalize(functional.to_dtype(resized, torch.float32, scale=True), view.mean, view.std)
    shown = pipeline(view).eval_view(images)
    assert shown.dtype == torch.float32
    assert shown.shape == (3, 3, 24, 24)
    assert (shown - expected).abs().max() < 1.001 / 255 / 0.2  # one level


@pytest.mark.parametrize(
    ("sizes", "num_epochs", "expected"),
    [
        ([32], 3, [32, 32, 32]),
        ([32, 48], 4, [32, 32, 48, 48]),
        ([32, 48], 3, [32, 32, 48]),
        ([24, 32, 48], 3, [24, 32, 48]),
        ([24, 32, 48], 7, [24, 24, 24, 32, 32, 48, 48]),
    ],
)
def test_each_size_is_used_in_an_equal_part_of_epochs(sizes: list[int], num_epochs: int, expected: list[int]) -> None:
    assert [size_of(sizes, epoch, num_epochs) for epoch in range(num_epochs)] == expected


def test_features_are_passed_on_unchanged() -> None:
    features, labels = torch.arange(6.0).reshape(3, 2), torch.tensor([2, 0, 1])
    seen = FeaturePipeline()
    batch = Batch(features, labels, np.array([5, 1, 3]))
    images, targets = seen.train_batch(batch, epoch=4, size=32, num_classes=3)
    assert torch.equal(images, features)
    assert torch.equal(targets, labels)
    assert torch.equal(seen.eval_view(features), features)
    assert [torch.equal(view, features) for view in seen.tta_views(features)] == [True]
