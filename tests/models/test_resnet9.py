from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from intel_scenes.errors import UserError
from intel_scenes.models.backbones import build, check_image_size, heads
from intel_scenes.models.own import OWN
from intel_scenes.models.weights import preprocessing_of, resolve_weights


def num_parameters(width: int, num_classes: int) -> int:
    """Count parameters by hand: convolutions without bias, two per channel of each norm, and a linear layer."""
    convolutions = [(3, 1), (1, 2), (2, 2), (2, 2), (2, 4), (4, 8), (8, 8), (8, 8)]
    sizes = [(inputs if inputs == 3 else inputs * width, outputs * width) for inputs, outputs in convolutions]
    return sum(9 * a * b + 2 * b for a, b in sizes) + (8 * width + 1) * num_classes


@pytest.mark.parametrize(("name", "width"), [("resnet9", 64), ("resnet9_x0_5", 32)])
def test_it_has_eight_convolutions_and_a_head_of_our_classes(name: str, width: int) -> None:
    network = build(name, 6, weights=None, image_size=64)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 8
    assert sum(parameter.numel() for parameter in network.parameters()) == num_parameters(width, 6)
    assert set(heads(network)) == {"fc"}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("size", [15, 64, 97])
def test_it_gives_a_logit_a_class_whatever_the_size(name: str, size: int) -> None:
    network = build(name, 6, weights=None, image_size=size).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, size, size)).shape == (2, 6)
    check_image_size(network, name, size)


def test_its_map_has_a_sixteenth_of_the_images_side_and_the_mean_of_it_is_classified() -> None:
    network = build("resnet9_x0_5", 6, weights=None, image_size=64).eval()
    maps: list[torch.Tensor] = []
    network.layer3.register_forward_hook(lambda _, __, output: maps.append(output))
    with torch.no_grad():
        logits = network(torch.rand(2, 3, 64, 96))
        assert maps[0].shape == (2, 256, 4, 6)
        torch.testing.assert_close(logits, maps[0].mean((2, 3)) @ network.fc.weight.T + network.fc.bias)


def test_images_that_leave_no_feature_map_are_refused_with_the_native_size() -> None:
    network = build("resnet9", 6, weights=None, image_size=64)
    with pytest.raises(UserError, match=r"resnet9 cannot train on images of 14 x 14 pixels .*data\.image_size=64"):
        check_image_size(network, "resnet9", 14)


def test_images_are_not_cropped_at_64_px() -> None:
    found = preprocessing_of("resnet9", None)
    assert (found.crop_size, found.resize_size) == (64, 64)


def test_weights_of_a_file_are_loaded_and_none_are_published(tmp_path: Path) -> None:
    theirs = build("resnet9_x0_5", 10, weights=None, image_size=64)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    weights = resolve_weights("resnet9_x0_5", str(tmp_path / "w.safetensors"))
    assert weights is not None
    assert preprocessing_of("resnet9_x0_5", "w.safetensors") == preprocessing_of("resnet9_x0_5", None)
    ours = build("resnet9_x0_5", 6, weights=weights, image_size=64)
    assert torch.equal(ours.layer3[0].conv.weight, theirs.layer3[0].conv.weight)
    with pytest.raises(UserError, match=r"weights=DEFAULT is not a file, and resnet9 has no published weights: set"):
        resolve_weights("resnet9", "DEFAULT")


def test_a_misspelt_name_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"did you mean .*resnet9.*or resnet9 or resnet9_x0_5$"):
        resolve_weights("resnet09", None)
