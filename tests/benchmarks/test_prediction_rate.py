import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from intel_scenes.benchmarks.prediction_rate import Files, _differing
from intel_scenes.inference.predict import Predicted


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        ([0, 1, 2], "0 of 3 images get another class"),
        ([0, 2, 0], "2 of 3 images get another class, with margins 0.1000 to 0.3000 (median 0.2000)"),
    ],
)
def test_images_with_another_class_are_counted_with_our_margins(classes: list[int], note: str) -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.45, 0.35], [0.3, 0.05, 0.6]])
    ours = Predicted(["a", "b", "c"], ("x", "y", "z"), probabilities, {})
    assert _differing(ours, np.array(classes)) == note


def test_the_plain_script_reads_files_as_torchvision_does(tmp_path) -> None:
    Image.new("L", (3, 2), 51).save(tmp_path / "a.png")
    files = Files([tmp_path / "a.png"], transforms.ToTensor())
    assert len(files) == 1
    assert files[0].shape == (3, 2, 3)
    assert files[0].flatten().tolist() == pytest.approx([0.2] * 18)
