import csv

import numpy as np
import pytest

from intel_scenes.errors import UserError
from intel_scenes.record import PREDICTIONS
from intel_scenes.studies.align import align, near_groups
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.load import load
from intel_scenes.studies.render.sentences import notes, unplanned
from tests.studies.simulated_records import leave, leave_run, right


def test_the_test_images_are_those_of_most_runs_not_those_of_the_leader(tmp_path):
    odd = leave_run(tmp_path, "odd", {"optim": "a", "seed": 1}, right(0.99, 60), optim="a", val_accuracy=0.999)
    for seed in (1, 2):
        for optim in ("sgd", "adam"):
            leave(tmp_path, optim, seed, 0.9)
    aligned = align(load(tmp_path).runs)
    assert len(aligned.images.paths) == 120
    assert odd.name not in aligned.predicted
    comparison = compare(tmp_path)
    assert [len(arm.tested.evaluated) for arm in comparison.arms] == [0, 2, 2]
    assert "predictions left out (their test images differ from those of most runs): odd" in unplanned(
        comparison.notices
    )


def test_a_run_whose_validation_accuracy_contradicts_its_predictions_takes_no_part_in_the_choice(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, "sgd", seed, 0.8, num_val=100, val_accuracy=1.0)  # the simulated predictions of val are correct
        leave(tmp_path, "adam", seed, 0.8, num_val=100, val_accuracy=1.0 if seed == 1 else 0.5)
    comparison = compare(tmp_path)
    assert {arm.label: len(arm.chosen.runs) for arm in comparison.arms} == {"sgd": 2, "adam": 1}
    reason = "the record says val_accuracy=0.5000 and the predictions give 1.0000"
    assert f"1 run is left out, because {reason}: optim=adam,seed=2" in unplanned(comparison.notices)


def leave_audit(path, *pairs):
    columns = ("kind", "split", "path", "other_split", "other_path")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *pairs])
    return path


def test_near_duplicates_are_one_cluster_by_any_chain_of_pairs(tmp_path):
    audit = leave_audit(
        tmp_path / "audit.csv",
        ("near", "test", "a/0.jpg", "test", "a/1.jpg"),
        ("identical", "test", "a/1.jpg", "test", "b/2.jpg"),
        ("near", "train", "a/3.jpg", "test", "a/4.jpg"),
        ("label", "test", "a/5.jpg", "", ""),
    )
    paths = ["a/0.jpg", "a/1.jpg", "b/2.jpg", "a/3.jpg", "a/4.jpg", "a/5.jpg"]
    with pytest.raises(UserError, match=r"names a/1\.jpg, which is not a test image of this study"):
        near_groups(audit, ["a/0.jpg", "b/2.jpg", "a/4.jpg"])
    groups = near_groups(audit, paths)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups.tolist())) == 4
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "hello.csv").write_text("hello\n")
    for wrong in ("other.csv", "hello.csv", "none.csv"):
        with pytest.raises(UserError, match=r"cannot be read: set it to the audit.csv"):
            near_groups(tmp_path / wrong, paths)


def test_duplicate_test_images_do_not_narrow_an_interval(tmp_path):
    """With each image ten times, the interval is that of a tenth of the images."""
    rng = np.random.default_rng(2)
    pairs = []
    for seed in (1, 2, 3):
        for optim, share in (("sgd", 0.9), ("adam", 0.8)):
            few = rng.random(60) < share
            leave_run(tmp_path / "few", f"{optim}{seed}", {"optim": optim, "seed": seed}, few, optim=optim)
            many = np.repeat(few.reshape(10, 6), 10, axis=0).ravel()  # classes by index modulo six
            folder = leave_run(tmp_path / "many", f"{optim}{seed}", {"optim": optim, "seed": seed}, many, optim=optim)
    lines = (folder / PREDICTIONS).read_text().splitlines()
    paths = np.array([line.split(",")[1] for line in lines if line.startswith("test,")]).reshape(10, 10, 6)
    for block in range(10):
        for column in range(6):
            first, *others = paths[block, :, column]
            pairs += [("near", "test", first, "test", other) for other in others]
    audit = leave_audit(tmp_path / "audit.csv", *pairs)
    alone, grouped = compare(tmp_path / "few"), compare(tmp_path / "many", audit=audit)
    assert grouped.pairs[0].estimate.interval() == pytest.approx(alone.pairs[0].estimate.interval())
    assert grouped.arms[0].tested.interval == pytest.approx(alone.arms[0].tested.interval)
    of_images = [comparison.pairs[0].estimate for comparison in (compare(tmp_path / "many"), alone)]
    ignored, honest = (one.images / one.num_images for one in of_images)
    assert ignored == pytest.approx(honest / 10, rel=0.05)
    assert any(line.startswith("test images count as independent") for line in notes(alone.notices))
    assert not any(line.startswith("near-duplicate") for line in notes(grouped.notices))
