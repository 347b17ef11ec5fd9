"""A run on images with a rare class."""

import csv

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from intel_scenes import record
from intel_scenes.record import Predictions
from intel_scenes.training.build import build_data
from tests.small import DRAWN, SMALL, asked

BALANCED = "primary_metric=balanced_accuracy"


@pytest.fixture
def rare(cache, tmp_path):
    """Return overrides that leave one training and one validation image of class street."""
    splits = build_data(asked(*DRAWN, *SMALL, f"data.cache_dir={cache}", "data.val_fraction=0.3")).splits
    parts = ([splits.scenes.paths[index] for index in part] for part in (splits.train, splits.val))
    streets = ([path for path in part if path.startswith("street/")] for part in parts)
    path = tmp_path / "exclude.txt"
    path.write_text("\n".join(street for part in streets for street in part[1:]))
    return f"data.exclude={path}", "data.val_fraction=0.3", "epochs=4", "optim.lr=0.01"


def test_balanced_accuracy_chooses_the_epoch_and_is_recorded(run, rare, tmp_path, caplog):
    caplog.set_level("INFO")
    summary = run(BALANCED, *rare)
    with (tmp_path / "run" / record.HISTORY).open() as file:
        history = [(float(row["val_balanced_accuracy"]), float(row["val_accuracy"])) for row in csv.DictReader(file)]
    assert summary.primary_metric == "balanced_accuracy"
    assert (summary.val_balanced_accuracy, summary.val_accuracy) == history[summary.best_epoch]
    assert summary.val_balanced_accuracy == max(history)[0]
    for split, recorded in (("val", summary.val_balanced_accuracy_tta), ("test", summary.test_balanced_accuracy)):
        read = Predictions.read(tmp_path / "run", split)
        assert recorded == pytest.approx(balanced_accuracy_score(read.labels, read.predicted), rel=1e-12)
    assert summary.val_balanced_accuracy_tta == pytest.approx(summary.val_balanced_accuracy, abs=1e-6)
    assert summary.test_macro_f1 == pytest.approx(f1_score(read.labels, read.predicted, average="macro"))
    assert "street 1 (train)" in caplog.text
    assert "consider" not in caplog.text, "the advice is followed already"


def test_a_rare_class_is_reported_at_the_start_and_weighted_in_the_loss(run, rare, tmp_path, caplog):
    caplog.set_level("INFO")
    plain = run("epochs=1", *rare[:2], folder=tmp_path / "plain")
    rarest = "street has less than a tenth of the images of buildings, 1 for validation and 5 for test"
    hint = f"{rarest}: consider recipe.class_weight=1 or primary_metric="
    assert hint in caplog.text
    caplog.clear()
    weighted = run("epochs=1", "recipe.class_weight=1", *rare[:2], folder=tmp_path / "weighted")
    assert "consider" not in caplog.text
    assert plain.init_digest == weighted.init_digest
    losses = [np.genfromtxt(tmp_path / name / record.HISTORY, delimiter=",")[1, 3] for name in ("plain", "weighted")]
    assert losses[0] != losses[1]
    assert weighted.recipe_resolved["recipe"]["class_weight"] == 1
