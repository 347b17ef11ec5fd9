"""Records and plans that no run writes: compared without them, by name, and nothing in them is executed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from intel_scenes import record
from intel_scenes.config import CompareConfig
from intel_scenes.errors import UserError
from intel_scenes.record import Predictions, Summary, read_study
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from tests.hostile.odd import NAMES
from tests.studies.simulated_records import leave

BAD = "optim=sgd,seed=1"
OTHERS = ("optim=sgd,seed=2", "optim=adam,seed=1", "optim=adam,seed=2")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms with two seeds."""
    for optim, share in (("sgd", 0.8), ("adam", 0.7)):
        for seed in (1, 2):
            leave(tmp_path / "study", optim, seed, share)
    return tmp_path / "study"


def reasons(study: Path) -> list[str]:
    """Why `BAD` or its predictions are left out of a comparison."""
    notices = [notice for notice in compare(study).notices if notice.runs == (BAD,)]
    return [str(notice.values["reason"]) for notice in notices if "reason" in notice.values]


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


SUMMARIES: dict[str, tuple[dict[str, object], str]] = {
    "text for a number": ({"epochs": "3"}, "holds epochs: 3, which no run writes"),
    "number for a text": ({"device": 1}, "holds device: 1, which no run writes"),
    "truth for a number": ({"seed": True}, "holds seed: True, which no run writes"),
    "part of a value": ({"normalization": {"mean": [0, 0, 0]}}, "holds normalization: {'mean': [0, 0, 0]}, which"),
    "huge whole number": ({"parameters": 10**30}, "holds parameters: 1000000000000000000000000000000, which"),
    "huge number": ({"fit_seconds": 1e308}, "holds fit_seconds: 1e+308, which no run writes"),
    "tiny number": ({"fit_seconds": 5e-324}, "holds fit_seconds: 5e-324, which no run writes"),
    "huge part": ({"recipe_resolved": {"a": [1e308]}}, "holds recipe_resolved: {'a': [1e+308]}, which no run writes"),
    "accuracy above 1": ({"test_accuracy": 80}, "is inconsistent (completed, but test_accuracy is 80)"),
    "accuracy below 0": ({"train_accuracy": -0.5}, "is inconsistent (completed, but train_accuracy is -0.5)"),
    "accuracy that is no number": ({"val_accuracy": float("nan")}, "(completed, but val_accuracy is null)"),
    "unknown metric": ({"primary_metric": "luck"}, "is inconsistent (primary_metric is luck)"),
    "unknown status": ({"status": "won"}, "holds status: won, which no run writes"),
    "deep nesting": ({"recipe_resolved": {"a": nested(100)}}, "holds recipe_resolved: {'a': [[[[[[...]]]]]]}, which"),
}


@pytest.mark.parametrize("kind", SUMMARIES)
def test_a_summary_that_no_run_writes_is_named_and_left_out(kind: str, study: Path) -> None:
    changed, reason = SUMMARIES[kind]
    path = study / BAD / record.SUMMARY
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    compared = compare(study)
    assert {run.name for run in compared.runs} == set(OTHERS)
    (told,) = [notice.values["reason"] for notice in compared.notices if notice.runs == (BAD,)]
    assert str(told).startswith(str(path))
    assert reason in told


CONTENTS = {
    "nothing": b"",
    "no UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "brackets": b"[" * 100_000,
    "digits": b'{"epochs": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_summary_that_is_none_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    (tmp_path / record.SUMMARY).write_bytes(CONTENTS[kind])
    with pytest.raises(UserError, match=r"summary.json is not a record \(.+\): move the folder away|it is not a JSON"):
        Summary.read(tmp_path)
    assert Summary.peek(tmp_path) is None


def test_missing_and_extra_keys_and_numbers_that_are_not_finite_are_taken_for_unknown(study: Path) -> None:
    path = study / BAD / record.SUMMARY
    values = json.loads(path.read_text())
    values |= {"lr": float("inf"), "recipe_resolved": {"recipe": {"views": 1, "a": [float("nan")]}}, "later": [1]}
    del values["device"]
    path.write_text(json.dumps(values))
    summary = Summary.read(path.parent)
    assert summary is not None
    assert (summary.lr, summary.device) == (None, None)
    assert summary.recipe_resolved == {"recipe": {"views": 1, "a": [None]}}
    assert len(compare(study).runs) == 4


ROWS: dict[str, tuple[Callable[[str], str], str]] = {
    "unfinished quotes": (lambda _: '"' + "x" * 200_000, "field larger than field limit"),
    "negative class": (lambda text: text.replace(",1,1,", ",1,-1,"), "it has images of a class below 0"),
    "huge class": (lambda text: text.replace(",1,1,", ",1,40000,"), "or above 32,767"),
    "class beyond 64 bits": (lambda text: text.replace(",1,1,", f",1,{10**30},"), "too large"),
    "class that is no number": (lambda text: text.replace(",1,1,", ",1,nan,"), "invalid literal"),
    "rows cut off": (lambda text: text[: text.index("test00060") - 13], "has 60 test images"),
    "cut within a row": (lambda text: text[: len(text) // 2], "test images without probabilities"),
    "zeros": (lambda text: "\0" * len(text), "it has no test images"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_predictions_that_no_run_writes_are_named_and_left_out(kind: str, study: Path) -> None:
    change, reason = ROWS[kind]
    path = study / BAD / record.PREDICTIONS
    path.write_text(change(path.read_text()))
    (told,) = reasons(study)
    assert reason in told


def test_a_class_of_validation_images_that_the_record_does_not_list_is_refused_before_it_is_counted(
    study: Path,
) -> None:
    path = study / BAD / record.PREDICTIONS
    path.write_text(path.read_text() + "val,sea/1.jpg,32000,32000,0.5,0.1,0.1,0.1,0.1,0.1\n")
    summary = path.with_name(record.SUMMARY)
    accuracies = dict.fromkeys(("val_balanced_accuracy", "val_balanced_accuracy_tta", "test_balanced_accuracy"), 0.5)
    values = json.loads(summary.read_text()) | {"primary_metric": "balanced_accuracy"} | accuracies
    summary.write_text(json.dumps(values))
    for other in OTHERS:
        (study / other / record.SUMMARY).unlink()
    (told,) = [
        notice.values["reason"]
        for notice in compare(study).notices
        if "reason" in notice.values and notice.runs == (BAD,)
    ]
    assert "a class that summary.json does not list" in told


# Each line of lists holds the line before it ten times: a billion words once it is expanded.
LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
YAML = {
    "expansion": LAUGHS,
    "value within itself": "question: &a [*a]",
    "deep nesting": "question: " + "[" * 3000,
    "code": "question: !!python/object/apply:os.mkdir [{place}]",
    "name of a function": "question: !!python/name:os.system",
    "no characters": "\0",
    "no date": "date: 2024-99-99",
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_that_expands_or_executes_is_refused(kind: str, study: Path) -> None:
    text = YAML[kind].replace("{place}", str(study / "made"))
    (study / record.STUDY).write_text(text)
    with pytest.raises(UserError, match=r"study.yaml cannot be read \((.|\n)+\): correct it, or move it away$"):
        read_study(study)
    (study / record.STUDY).unlink()
    (study / BAD / record.OVERRIDES).write_text(text)
    (told,) = reasons(study)
    assert told.startswith("overrides.yaml cannot be read (")
    assert not (study / "made").exists()


PLANS = (
    *("", "[]", "compared: 1", "seeds: {a: b}", "threads: .inf", "threads: [1]", "twins: [a]", "added: [1]"),
    *("searched: {lr: [1, 2]}", "searched: {lr: [a, b, 1]}", "searched: {lr: [.nan, 1, 1]}"),
    *("added: [{runs: [a], changed: {question: [1]}}]", "confirmed: [{arms: [{label: x, seeds: [1], runs: []}]}]"),
    *("baselines: [{label: x, num_completed: .inf}]", "fitted_epochs: {a: x}", "budgets: [{minutes: 1}]"),
)


@pytest.mark.parametrize("text", PLANS)
def test_a_plan_of_the_wrong_shape_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / record.STUDY).write_text(text)
    with pytest.raises(UserError, match=r"study.yaml is not a plan of a study: correct it, or move it away$"):
        read_study(tmp_path)


def test_the_plan_of_a_stranger_is_shown_as_text_and_names_no_file_to_write(study: Path) -> None:
    (study / record.STUDY).write_text(
        "question: <script>alert(1)</script>\n"
        "planned: [../../outside, '<script>alert(2)</script>', null]\n"
        "twins: {../outside: ../../outside}\n"
        "added: [{runs: ['<script>alert(3)</script>'], changed: {question: [a, '<script>alert(4)</script>']}}]\n"
        "baselines: [{label: '<script>alert(5)</script>', num_completed: -1}]\n"
        "confirmed: [{arms: [{label: x, overrides: ['optim=<script>'], seeds: [1], runs: [/outside]}]}]\n"
        "unknown: {a: [1]}\n"
    )
    before = set(study.parent.rglob("*"))
    compare_and_write(study, CompareConfig(baseline=None, rope=0.5))
    made = {path.relative_to(study).as_posix() for path in set(study.parent.rglob("*")) - before}
    assert made == {"results.csv", "pairwise.csv", "report.html", "effects.csv", "interactions.csv"} & made
    page = (study / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_predictions_with_names_of_any_kind_are_read_as_they_were_written(tmp_path: Path) -> None:
    paths = [f"{name}/{name}" for name in NAMES]
    labels = np.arange(len(NAMES))
    chances = np.eye(len(NAMES))
    split = Predictions(paths, labels, labels, chances)
    Predictions.write(tmp_path, NAMES, {"val": split, "test": split})
    assert Predictions.read(tmp_path, "test").paths == paths
    assert Predictions.read_classes(tmp_path)["val"].paths == paths
