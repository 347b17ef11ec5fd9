import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional

from intel_scenes.data.pipelines import View
from intel_scenes.models.predicting import probabilities
from intel_scenes.runtime import Runtime
from tests.data.pixels import pipeline

VIEW = View(4, 4, "bilinear", mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.5))
FLOAT32 = Runtime(torch.device("cpu"), "32-true", threads=1)
see = pipeline(VIEW).tta_views


def stored(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(256, (size, 3, 4, 4), generator=generator, dtype=torch.uint8) for size in sizes]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 3))


def test_probabilities_are_the_softmax_of_the_logits_of_normalized_images() -> None:
    layers, batches = network(), stored(3, 1, 2)
    found = probabilities(layers, map(see, batches), FLOAT32)
    linear = layers[2]
    weight, bias = linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()
    pixels = np.concatenate([images.numpy() for images in batches]) / 255
    seen = (pixels - np.reshape(VIEW.mean, (3, 1, 1))) / np.reshape(VIEW.std, (3, 1, 1))
    powers = np.exp(seen.reshape(6, 48) @ weight.T + bias)
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_probabilities_are_float64_and_their_rows_sum_to_one(precision: str) -> None:
    found = probabilities(network(), map(see, stored(3, 1)), Runtime(torch.device("cpu"), precision, 1))
    assert (found.dtype, found.shape) == (np.float64, (4, 3))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-14)


def test_mixed_precision_rounds_logits_to_bfloat16() -> None:
    batches = stored(4)
    exact = probabilities(network(), map(see, batches), FLOAT32)
    mixed = probabilities(network(), map(see, batches), Runtime(torch.device("cpu"), "bf16-mixed", 1))
    assert not np.array_equal(exact, mixed)
    np.testing.assert_allclose(exact, mixed, atol=0.05)  # bfloat16 keeps 8 bits


def test_the_networks_mode_changes_nothing_and_nothing_is_learned() -> None:
    layers = network().train()
    before = [parameter.clone() for parameter in layers.parameters()]
    first = probabilities(layers, map(see, stored(3)), FLOAT32)
    second = probabilities(layers.train(), map(see, stored(3)), FLOAT32)
    assert np.array_equal(first, second)
    assert all(map(torch.equal, before, layers.parameters()))


@pytest.mark.parametrize("kind", ["flip", "flip_crops"])
def test_probabilities_are_means_over_the_views_of_an_image(kind: str) -> None:
    view = View(14, 14, "bilinear", VIEW.mean, VIEW.std)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5, 3, 16, 16), generator=generator, dtype=torch.uint8)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 3)).eval()
    found = probabilities(layers, [pipeline(view, tta=kind).tta_views(images)], FLOAT32)
    if kind == "flip":
        small = functional.resize(images, [14, 14], antialias=True)
        seen = [small, functional.horizontal_flip(small)]
    else:
        seen = list(functional.ten_crop(images, [14, 14]))  # 16 is 8/7 of 14
    with torch.inference_mode():
        expected = [
            layers(functional.normalize(one / 255, list(VIEW.mean), list(VIEW.std))).double().softmax(1) for one in seen
        ]
    np.testing.assert_allclose(found, torch.stack(expected).mean(0).numpy(), atol=1e-5)
