from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from intel_scenes import predictions
from intel_scenes.errors import UserError

HEAD = "split,path,label,predicted,ice,sea\n"
ROWS = 'val,ice/1.jpg,0,1,0.25,0.75\ntest,sea/2.jpg,1,1,0.1,0.9\nval,"sea/3,4.jpg",1,1,0.4,0.6\n'


def left(folder: Path, text: str) -> Path:
    (folder / "predictions.csv").write_text(text)
    return folder


def test_a_split_is_read_in_its_order(tmp_path: Path) -> None:
    found = predictions.read(left(tmp_path, HEAD + ROWS), "val")
    assert found.paths == ["ice/1.jpg", "sea/3,4.jpg"]
    np.testing.assert_array_equal(found.labels, [0, 1])
    np.testing.assert_array_equal(found.probabilities, [[0.25, 0.75], [0.4, 0.6]])


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD + "test,sea/2.jpg,1,1,0.1,0.9\n",
        HEAD + ROWS + "val,ice/5.jpg,0,1,0.25\n",
        HEAD + ROWS + "val,ice/5.jpg,0,1,0.25,much\n",
        HEAD + ROWS + "val,ice/5.jpg,2,1,0.25,0.75\n",
        HEAD + "\n" + ROWS,
    ],
    ids=["empty", "another split", "cut off", "no number", "no class", "an empty line"],
)
def test_what_is_broken_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read \(.+\): run it again$"):
        predictions.read(left(tmp_path, text), "val")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read \(.+\): run it again$"):
        predictions.read(tmp_path, "val")


def test_cross_entropies_have_scikit_learns_mean() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    labels = np.arange(50) % 3
    expected = log_loss(labels, probabilities, labels=range(3))
    assert predictions.cross_entropies(probabilities, labels).mean() == pytest.approx(expected, rel=1e-12)


def test_a_temperature_divides_the_logits() -> None:
    """By hand: of 4 to 1, half the logits leave 2 to 1."""
    found = predictions.at_temperature(np.array([[0.8, 0.2]]), 2.0)
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]], rtol=1e-12)
