import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss

from intel_scenes import record
from intel_scenes.config import CompareConfig
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.render.sentences import problems, unplanned
from tests.studies.simulated_records import CLASSES, leave_run

NUM_VAL, SEEDS = 120, (1, 2, 3)
TEMPERATURE = {"sgd": 1.0, "adam": 0.5}


OPTIONS = CompareConfig(baseline="sgd", rope=0.5)


@pytest.fixture
def study(tmp_path):
    """Write runs of two optimizers with random validation probabilities; return the folder and the probabilities."""
    rng, chances = np.random.default_rng(3), {}
    for optim, temperature in TEMPERATURE.items():
        for seed in SEEDS:
            right = rng.random(60) < 0.8
            typed = {"optim": optim, "seed": seed}
            folder = leave_run(
                tmp_path, f"{optim}-{seed}", typed, right, num_val=NUM_VAL, temperature=temperature, optim=optim
            )
            table = rng.dirichlet(np.ones(6), NUM_VAL)
            table[np.arange(NUM_VAL), np.arange(NUM_VAL) % 6] += 0.3 + 0.3 * (optim == "adam")
            chances[optim, seed] = table / table.sum(1, keepdims=True)
            replace_validation(folder, chances[optim, seed])
    return tmp_path, chances


def replace_validation(folder, table):
    path = folder / record.PREDICTIONS
    with path.open() as file:
        head, *rows = list(csv.reader(file))
    labels = np.arange(len(table)) % 6
    shown = [
        ["val", f"{CLASSES[label]}/{index}.jpg", str(label), str(chances.argmax()), *map(repr, chances.tolist())]
        for index, (label, chances) in enumerate(zip(labels.tolist(), table, strict=True))
    ]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *shown, *(row for row in rows if row[0] == "test")])
    place = folder / record.SUMMARY
    accuracy = float((table.argmax(1) == labels).mean())
    place.write_text(json.dumps(json.loads(place.read_text()) | {"val_accuracy": accuracy}))


def test_an_arm_is_compared_with_the_baseline_by_accuracy_and_by_loss_at_its_own_temperature(study):
    folder, chances = study
    (one,) = compare(folder, baseline="sgd").on_validation
    labels = np.arange(NUM_VAL) % 6
    accuracy = {key: np.mean(table.argmax(1) == labels) for key, table in chances.items()}
    loss = {}
    for (optim, seed), table in chances.items():
        cooled = table ** (1 / TEMPERATURE[optim])
        loss[optim, seed] = log_loss(labels, cooled / cooled.sum(1, keepdims=True))
    for estimate, values in ((one.accuracy, accuracy), (one.loss, loss)):
        differences = [values["adam", seed] - values["sgd", seed] for seed in SEEDS]
        assert estimate.value == pytest.approx(np.mean(differences), abs=1e-6)
        low, high = estimate.interval()
        assert low < estimate.value < high
    # Never narrower than the interval over images alone.
    by_image = np.mean(
        [(chances["adam", s].argmax(1) == labels) * 1.0 - (chances["sgd", s].argmax(1) == labels) for s in SEEDS], 0
    )
    half = stats.norm.ppf(0.975) * by_image.std(ddof=1) / np.sqrt(NUM_VAL)
    low, high = one.accuracy.interval()
    assert (high - low) / 2 >= half
    assert (one.label, one.accuracy.num_seeds, one.accuracy.is_paired) == ("adam", (3, 3), True)


def test_a_loss_may_differ_by_more_than_one(study):
    folder, chances = study
    for seed in SEEDS:
        wrong = np.roll(chances["adam", seed], 1, axis=1) ** 4
        replace_validation(folder / f"adam-{seed}", wrong / wrong.sum(1, keepdims=True))
    (one,) = compare(folder, baseline="sgd").on_validation
    low, high = one.loss.interval()
    assert 1 < low < one.loss.value < high


def test_all_formats_and_files_show_the_comparison(study):
    folder, _ = study
    terminal = compare_and_write(folder, OPTIONS)
    assert "against sgd on validation  points of accuracy" in terminal
    (one,) = json.loads(compare_and_write(folder, OPTIONS, form="json"))["on_validation"]
    assert f"| adam | {100 * one['val_accuracy']:+.1f} (" in compare_and_write(folder, OPTIONS, form="markdown")
    with (folder / "pairwise.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(rows["val_accuracy"]["difference"]) == one["val_accuracy"]
    assert float(rows["val_loss_calibrated"]["low"]) == one["val_loss_calibrated_interval"][0]
    assert "Against the baseline on validation" in (folder / "report.html").read_text()


def test_without_a_baseline_nothing_is_compared_on_validation(study):
    folder, _ = study
    assert compare(folder).on_validation == ()
    assert "on validation  points" not in compare_and_write(folder, replace(OPTIONS, baseline=None))


@pytest.mark.parametrize("damage", ["temperature", "rows", "images"])
def test_an_arm_that_cannot_be_compared_is_named(study, damage):
    folder, chances = study
    path = folder / "adam-2" / record.PREDICTIONS
    if damage == "temperature":
        place = folder / "adam-2" / record.SUMMARY
        place.write_text(json.dumps(json.loads(place.read_text()) | {"temperature": None}))
    elif damage == "rows":
        path.write_text(path.read_text().replace(f"{CLASSES[1]}/1.jpg,1,", f"{CLASSES[1]}/1.jpg,x,"))
    else:
        replace_validation(folder / "adam-2", chances["adam", 2][1:])
    comparison = compare(folder, baseline="sgd")
    if damage == "rows":  # a corrupt file is not read at all
        (one,) = comparison.on_validation
        assert one.accuracy.num_seeds == (2, 3)
        assert any(
            line.startswith("predictions left out (") and "adam-2" in line for line in unplanned(comparison.notices)
        )
    else:
        assert comparison.on_validation == ()
        assert any(
            problem.startswith("adam is not compared on validation: ") for problem in problems(comparison.notices)
        )
    assert len(comparison.pairs) == 1, "the test images are compared all the same"


def test_an_arm_with_much_larger_seed_variance_keeps_its_own(study):
    folder, chances = study
    rng = np.random.default_rng(7)
    labels, differences = np.arange(NUM_VAL) % 6, []
    for seed in SEEDS:
        steady = chances["sgd", seed].copy()
        steady[:6] = rng.dirichlet(np.ones(6), 6)
        wild = steady.copy()
        wild[: 60 * (seed - 1)] = np.roll(np.eye(6)[labels[: 60 * (seed - 1)]], 1, axis=1)
        right, wrong = ((table.argmax(1) == labels).mean() for table in (chances["sgd", seed], wild))
        differences.append(wrong - right)
        for name, table in (("nadam", steady), ("rmsprop", wild)):
            typed = {"optim": name, "seed": seed}
            there = leave_run(
                folder, f"{name}-{seed}", typed, rng.random(60) < 0.8, num_val=NUM_VAL, temperature=1.0, optim=name
            )
            replace_validation(there, table)
    by_label = {one.label: one for one in compare(folder, baseline="sgd").on_validation}
    low, high = by_label["rmsprop"].accuracy.interval()
    of_seeds_alone = stats.t.ppf(0.975, 2) * np.std(differences, ddof=1) / np.sqrt(len(SEEDS))
    assert (high - low) / 2 > 0.75 * of_seeds_alone, "its own seed variance, not that of the quiet arms"
