"""The network that includes its preprocessing cuts images of any shape as `predict` and the evaluation do."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from intel_scenes.config import NO_AUGMENTATION
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.packed import StoreRule
from intel_scenes.data.pipelines import ImagePipeline, View
from intel_scenes.data.squares import Storing
from intel_scenes.inference.scene_network import SceneNetwork
from intel_scenes.inference.trained import Trained
from intel_scenes.runtime import Runtime

ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(30, 25), (25, 30), (27, 26), (24, 24), (47, 24), (23, 61), (20, 20)])
@pytest.mark.parametrize(("rule", "resize", "size"), [("square", 24, 20), ("square", 30, 24), ("whole", 24, 21)])
def test_it_sees_the_pixels_that_predict_shows_to_the_network(
    rule: StoreRule, resize: int, size: int, shape: tuple[int, int]
) -> None:
    view = View(size, resize, "bilinear", ZEROS, ONES)
    pipeline = ImagePipeline(view, NO_AUGMENTATION, Mixing(0, 0), tta=1, seed=0)
    storing = Storing(rule, 24, view.interpolation, view.crop_of(24))
    seeing = Trained("", (), nn.Identity(), pipeline, storing, 1.0, Runtime(torch.device("cpu"), "32-true", 1))
    # A ramp, whose pixels tell by how much it was moved: one column or row is 256 / 24 grey values or more.
    ramp = np.linspace(0, 255, shape[0])[:, None, None] * [1, 0, 0] + np.linspace(0, 255, shape[1])[:, None] * [0, 1, 0]
    image = Image.fromarray(ramp.round().astype(np.uint8))
    (expected,) = seeing.views({storing: torch.from_numpy(storing.square(image).copy()).permute(2, 0, 1)[None]})
    seen = SceneNetwork(seeing)(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
    np.testing.assert_allclose(seen, expected, atol=2.1 / 255)
