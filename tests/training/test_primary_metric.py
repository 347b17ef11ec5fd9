"""A run on images of which one class is rare."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from intel_scenes import record
from intel_scenes.record import Predictions

BALANCED = "primary_metric=balanced_accuracy"


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """Overrides that leave two of the street's 20 images."""
    path = tmp_path_factory.mktemp("rare") / "exclude.txt"
    path.write_text("\n".join(f"street/{number:05}.png" for number in range(2, 20)))
    return f"data.exclude={path}", "data.val_fraction=0.3", "epochs=4", "optim.lr=0.01"


def test_balanced_accuracy_chooses_the_epoch_and_the_record_says_what_it_came_to(run, rare, tmp_path, caplog):
    caplog.set_level("INFO")
    summary = run(BALANCED, *rare)
    with (tmp_path / "run" / record.HISTORY).open() as file:
        history = [(float(row["val_balanced_accuracy"]), float(row["val_accuracy"])) for row in csv.DictReader(file)]
    assert summary.primary_metric == "balanced_accuracy"
    assert (summary.val_balanced_accuracy, summary.val_accuracy) == history[summary.best_epoch]
    assert summary.val_balanced_accuracy == max(history)[0]
    for split, found in (("val", summary.val_balanced_accuracy_tta), ("test", summary.test_balanced_accuracy)):
        read = Predictions.read(tmp_path / "run", split)
        assert found == pytest.approx(balanced_accuracy_score(read.labels, read.predicted), rel=1e-12)
    assert summary.val_balanced_accuracy_tta == pytest.approx(summary.val_balanced_accuracy, abs=1e-6)
    assert summary.test_macro_f1 == pytest.approx(f1_score(read.labels, read.predicted, average="macro"))
    assert "street 1 (train)" in caplog.text
    assert "consider" not in caplog.text, "it is done"


def test_a_rare_class_is_told_of_at_the_start_and_weighs_in_the_loss(run, rare, tmp_path, caplog):
    caplog.set_level("INFO")
    plain = run("epochs=1", *rare[:2], folder=tmp_path / "plain")
    hint = "street has less than a tenth of the images of buildings: consider recipe.class_weight=1 or primary_metric="
    assert hint in caplog.text
    caplog.clear()
    weighted = run("epochs=1", "recipe.class_weight=1", *rare[:2], folder=tmp_path / "weighted")
    assert "consider" not in caplog.text
    assert plain.init_digest == weighted.init_digest
    losses = [np.genfromtxt(tmp_path / name / record.HISTORY, delimiter=",")[1, 3] for name in ("plain", "weighted")]
    assert losses[0] != losses[1]
    assert (
        json.loads((tmp_path / "weighted" / record.SUMMARY).read_text())["recipe_resolved"]["recipe"]["class_weight"]
        == 1
    )
