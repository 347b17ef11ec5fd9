"""docs/record.md names every file, key and column that the package writes, and none that it does not."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from intel_scenes import record
from intel_scenes.auditing.audit_images import EXCLUDE, PAGE, TABLE
from intel_scenes.auditing.findings import Finding
from intel_scenes.benchmarks.turns import Machine, Row
from intel_scenes.inference import ensembles, labelled, labelled_files
from intel_scenes.inference.paired import PairedDifference
from intel_scenes.inference.predict import Predicted
from intel_scenes.inference.reliability import Bin
from intel_scenes.record import AveragedEpoch, Epoch, EpochNoise, Predictions, StudyPlan, Summary
from intel_scenes.studies.load import Run
from intel_scenes.studies.render import csv_files
from intel_scenes.studies.render.learning_curves import curve_columns
from intel_scenes.studies.render.page import REPORT

TEXT = (Path(__file__).parent.parent / "docs" / "record.md").read_text()
PARTS = dict(re.findall(r"^###? `?([^`\n]+)`?\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def named(heading: str) -> list[str]:
    """What the first column of the table below a heading names."""
    return re.findall(r"^\| `([^`]+)` \|", PARTS[heading], re.MULTILINE)


def names(kind: type, prefix: str = "", *, without: tuple[str, ...] = ()) -> list[str]:
    return [f"{prefix}{field.name}" for field in fields(kind) if field.name not in without]


def ends(columns: list[str]) -> list[str]:
    """The interval of a record as its two columns, at the end of a table."""
    return [*(name for name in columns if name != "interval"), "interval_low", "interval_high"]


def of_plan() -> Iterator[str]:
    inner = {
        "added": record.Addition,
        "confirmed": record.Confirmation,
        "baselines": record.Baseline,
        "budgets": record.StudyBudget,
    }
    for name in names(StudyPlan, without=("others",)):
        yield name
        for key in names(inner[name], f"{name}[].") if name in inner else ():
            yield key
            if key == "confirmed[].arms":
                yield from names(record.ConfirmedArm, f"{key}[].")


def of_plan_file() -> Iterator[str]:
    yield "digest"
    for name in names(record.SweepPlan):
        yield name
        yield from names(record.PlannedRun, f"{name}[].") if name == "runs" else ()


def of_metrics() -> Iterator[str]:
    for name in names(labelled.FolderEvaluation, without=("predictions",)):
        yield name
        for key in names(labelled.FolderScores, "rows[].") if name == "rows" else ():
            yield key
            if key == "rows[].classes":
                yield from names(labelled.ClassScores, f"{key}[].")
        yield from names(PairedDifference, "pairs[].") if name == "pairs" else ()


EXPECTED = {
    "summary.json": names(Summary),
    "history.csv": names(Epoch),
    "gradient_noise.csv": names(EpochNoise),
    "averages.csv": names(AveragedEpoch),
    "study.yaml": list(of_plan()),
    "Plan file": list(of_plan_file()),
    "pairwise.csv": csv_files.PAIRWISE_COLUMNS,
    "effects.csv": csv_files.EFFECTS_COLUMNS,
    "interactions.csv": csv_files.INTERACTIONS_COLUMNS,
    "learning_curve.csv": curve_columns(SimpleNamespace(primary="test_accuracy")),
    "evaluation.json": [*names(ensembles.EnsembleScores), *names(ensembles.RunScores, "rows[].")],
    "metrics.json": list(of_metrics()),
    "pairs.csv": ends(names(PairedDifference)),
    "reliability.csv": ends(["kind", *names(Bin)]),
    "audit.csv": names(Finding),
    "bench.json": ["machine", *names(Machine, "machine."), "rows", *names(Row, "rows[].")],
}


@pytest.mark.parametrize("file", EXPECTED)
def test_the_page_names_every_key_and_column_of_a_file_and_no_other(file):
    assert sorted(named(file)) == sorted(EXPECTED[file])


def test_the_page_names_the_columns_of_the_predictions_of_a_run(tmp_path):
    one = Predictions(["a/1.jpg"], np.array([0]), np.array([0]), np.array([[0.75, 0.25]]))
    Predictions.write(tmp_path, ["first class", "second class"], {"val": one})
    columns = (tmp_path / record.PREDICTIONS).read_text().splitlines()[0].split(",")
    assert columns == [*named("predictions.csv")[:-1], "first class", "second class"]
    assert named("predictions.csv")[-1] == "CLASS"


def test_the_page_names_the_columns_of_predict():
    predicted = Predicted(["1.jpg"], ("a", "b", "c"), np.array([[0.5, 0.3, 0.2]]), {})
    assert list(predicted.table().names) == named("predict")


def test_the_columns_of_results_are_what_was_typed_the_keys_of_the_summary_and_the_run(tmp_path):
    summary = Summary(status=record.Status.FAILED, normalization=record.Normalization((0, 0, 0), (1, 1, 1)))
    run = Run(tmp_path / "name", {"optim": "sgd"}, summary)
    first, *columns, last = csv_files.results([run])[0]
    assert (first, last) == ("override.optim", "run")
    assert {column.partition(".")[0] for column in columns} == set(named("summary.json"))
    assert "normalization.mean" in columns


def test_the_page_names_the_files_of_a_run_and_of_a_study():
    of_run = [record.CONFIG, record.OVERRIDES, record.SUMMARY, record.HISTORY, record.PREDICTIONS, record.CURVES]
    of_run += [record.AVERAGES, record.GRADIENT_NOISE, record.CONFUSION, record.MISTAKES]
    of_run += [record.BEST, record.LAST, record.LOCK]
    assert sorted(named("Folder of a run")) == sorted([*of_run, "logs", "wandb"])
    tables = [csv_files.RESULTS, csv_files.PAIRWISE, csv_files.EFFECTS, csv_files.INTERACTIONS]
    of_study = [record.STUDY, record.STUDY_LOCK, *tables, csv_files.LEARNING_CURVE, REPORT, ".replaced", ".stopped"]
    assert sorted(named("Folder of a study")) == sorted(of_study)


def test_the_page_names_the_files_of_an_evaluation_and_of_an_audit(tmp_path):
    predictions = Predictions(["a/1.jpg"], np.array([0]), np.array([0]), np.array([[0.75, 0.25]]))
    evaluation = labelled.FolderEvaluation(**of_two_runs(predictions))
    labelled_files.write_evaluation(evaluation, tmp_path)
    files = {path.name for path in tmp_path.rglob("*.*")}
    assert files == set(named("Evaluation")) - {"evaluation.json"}
    assert set(json.loads((tmp_path / labelled_files.METRICS).read_text())) == {
        name for name in named("metrics.json") if "[" not in name
    }
    assert named("Folder of an audit") == [PAGE, TABLE, EXCLUDE]


def of_two_runs(predictions: Predictions) -> dict[str, Any]:
    classes = tuple(labelled.ClassScores(name, 1, 1, 1.0, 1.0, 1.0) for name in ("a", "b"))
    row = labelled.FolderScores(
        **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "loss", "ece"), 1.0),
        **dict.fromkeys(("temperature", "loss_calibrated", "ece_calibrated"), 1.0),
        **{"name": "run", "accuracy_interval": (0.0, 1.0), "classes": classes, "confusion": ((1, 0), (0, 0))},
    )
    return {
        **{"folder": Path("photos"), "split": None, "classes": ("a", "b"), "num_images": 1, "views": None},
        **{"rows": (row, row, row), "pairs": (PairedDifference("1", "2", 0.0, (0.0, 0.0), 0, 0, 1.0),)},
        **{"skipped": (), "notices": (), "predictions": (predictions,) * 3},
    }
