import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.record import Averages, GradientNoise, History, Normalization, Predictions, Status, Summary

CONTRACT = {
    *("status", "error", "traceback", "started", "ended"),
    *("study", "model", "optim", "scheduler", "recipe", "recipe_resolved", "model_name", "weights", "seed", "classes"),
    *("config_digest", "configuration_digest", "composition_digest"),
    *("data_fingerprint", "split_digest", "order_digest", "init_digest"),
    *("lr", "batch_size", "image_size", "epochs", "parameters", "num_train", "num_val", "num_test", "normalization"),
    *("best_epoch", "train_accuracy", "val_accuracy", "val_loss", "test_accuracy", "test_loss"),
    *("test_accuracy_interval", "test_duplicates", "test_accuracy_clean", "test_ece"),
    *("fit_seconds", "images_per_second", "peak_memory_bytes"),
    *("device", "precision", "threads", "versions", "package_version", "git_commit", "git_dirty"),
}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_contract_is_kept() -> None:
    assert set(record.SUMMARY_KEYS) >= CONTRACT
    assert set(record.GROUP_KEYS) < set(record.SUMMARY_KEYS)
    assert [*Status] == ["completed", "failed", "interrupted"]
    columns = "epoch,step,lr,train_loss,train_accuracy,train_eval_accuracy,val_loss,val_accuracy,images_per_second"
    assert ",".join(record.HISTORY_COLUMNS) == f"{columns},val_balanced_accuracy"
    columns = "epoch,step,small_batch,large_batch,num_large,small_norm,large_norm,signal,noise,noise_scale"
    assert (record.GRADIENT_NOISE, ",".join(record.GRADIENT_NOISE_COLUMNS)) == ("gradient_noise.csv", columns)
    assert (record.CONFIG, record.OVERRIDES, record.SUMMARY) == ("config.yaml", "overrides.yaml", "summary.json")
    assert (record.HISTORY, record.PREDICTIONS, record.CURVES) == ("history.csv", "predictions.csv", "curves.png")
    scores = "train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy"
    assert ",".join(record.AVERAGES_COLUMNS) == f"epoch,step,window,{scores},weight_norm"
    assert record.AVERAGES == "averages.csv"
    assert (record.CONFUSION, record.MISTAKES) == ("confusion.png", "mistakes.png")
    assert (record.BEST, record.LAST) == ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {"summary.json", "notes-x", ".other-x", "checkpoints/best.ckpt", "checkpoints/.mine-x"}
    left = {
        ".confusion.png-a0",
        ".mistakes.png-a0",
        ".summary.json-a1",
        ".history.csv-b2",
        ".gradient_noise.csv-b2",
        ".averages.csv-b3",
        "checkpoints/.last.ckpt-c3",
        "checkpoints/.best.ckpt-d4",
    }
    (tmp_path / "checkpoints").mkdir()
    for name in kept | left:
        (tmp_path / name).touch()
    record.remove_leftovers(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == kept


def test_a_summary_is_written_with_every_key_in_order(tmp_path: Path) -> None:
    summary = Summary(status=Status.FAILED, seed=3)
    summary.write(tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert tuple(found) == record.SUMMARY_KEYS
    assert tuple(found)[:6] == ("status", "error", "traceback", "started", "ended", "study")
    assert {key: value for key, value in found.items() if value is not None} == {"status": "failed", "seed": 3}
    assert Summary.read(tmp_path) == summary


WHOLE = {
    **{"status": "completed", "started": "2026-01-01T00:00:00+00:00", "optim": "sgd", "seed": 3, "lr": 0.1},
    **{"recipe_resolved": {"recipe": {"views": 1}, "augment": {"scale": [0.5, 1.0]}}, "classes": ["ice", "sea"]},
    **{"normalization": {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}, "transform_input": False, "epochs": 2},
    **{"val_accuracy": 0.9, "test_accuracy": 1, "test_accuracy_interval": [0.8, 1.0], "test_duplicates": []},
    **{"test_accuracy_per_class": [0.5, None], "test_confusion": [[1, 1], [0, 0]], "versions": {"torch": "2.15.0"}},
}


def test_a_summary_is_read_with_the_types_of_its_fields_and_written_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(WHOLE))
    found = Summary.read(tmp_path)
    assert found is not None
    assert found.status is Status.COMPLETED
    assert found.classes == ("ice", "sea")
    assert found.normalization == Normalization((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert found.test_accuracy_interval == (0.8, 1.0)
    assert found.test_accuracy_per_class == (0.5, None)
    assert found.test_confusion == ((1, 1), (0, 0))
    assert found.recipe_resolved == WHOLE["recipe_resolved"]
    found.write(tmp_path / "again")
    written = json.loads((tmp_path / "again/summary.json").read_text())
    assert {key: value for key, value in written.items() if value is not None} == WHOLE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("status", value) for value in ("done", None, 1)),
        *(("seed", "one"), ("seed", True), ("seed", 1.5), ("lr", "0.1"), ("lr", True), ("optim", 1), ("error", ["x"])),
        *(("classes", "abc"), ("classes", [1]), ("versions", []), ("versions", {"torch": 2}), ("git_dirty", 1)),
        *(("test_accuracy_interval", [0.1]), ("test_accuracy_interval", [0.1, None]), ("test_confusion", [1])),
        *(("normalization", {"mean": [0, 0, 0]}), ("normalization", {"mean": [0], "std": [1]}), ("normalization", 1)),
    ],
)
def test_a_value_of_another_type_is_named_with_its_file_and_key(tmp_path: Path, key: str, value: object) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(WHOLE | {key: value}))
    with pytest.raises(UserError) as caught:
        Summary.read(tmp_path)
    said = f"{tmp_path}/summary.json holds {key}: {value}, which no run writes: move the folder away"
    assert str(caught.value) == said
    assert Summary.peek(tmp_path) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("val_accuracy", value) for value in (None, math.nan, 93.0, -0.1)),
        *(("test_accuracy", value) for value in (None, math.nan, 93.0, -0.1)),
        *(("val_accuracy_tta", value) for value in (93.0, -0.1)),  # records of earlier versions lack it
    ],
)
def test_a_completed_run_has_its_accuracies(tmp_path: Path, key: str, value: float | None) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(WHOLE | {key: value}))
    expected = rf"summary\.json is inconsistent \(completed, but {key} is .*\): move the folder away$"
    with pytest.raises(UserError, match=expected):
        Summary.read(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps(WHOLE | {key: value, "status": "failed"}))
    assert Summary.peek(tmp_path) is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null(tmp_path: Path, value: float) -> None:
    Summary(status=Status.FAILED, val_loss=value).write(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["val_loss"] is None
    (tmp_path / "summary.json").write_text(json.dumps({"status": "failed", "val_loss": value}))
    found = Summary.read(tmp_path)
    assert found is not None
    assert found.val_loss is None


def completed(seed: int) -> Summary:
    return Summary(status=Status.COMPLETED, seed=seed, val_accuracy=0.9, test_accuracy=0.8)


@pytest.mark.parametrize("status", Status)
def test_a_completed_record_is_never_overwritten(tmp_path: Path, status: Status) -> None:
    completed(1).write(tmp_path)
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"summary\.json holds a completed record"):
        replace(completed(2), status=status).write(tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before


@pytest.mark.parametrize("status", [Status.FAILED, Status.INTERRUPTED])
def test_an_unfinished_record_may_be_replaced(tmp_path: Path, status: Status) -> None:
    Summary(status=status, error="a sentence").write(tmp_path)
    completed(1).write(tmp_path)
    assert Summary.read(tmp_path) == completed(1)


def test_a_missing_key_is_read_as_null_and_an_unknown_one_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "interrupted", "of_later_versions": 1}')
    assert Summary.read(tmp_path) == Summary(status=Status.INTERRUPTED)


def test_a_folder_without_a_summary_has_none(tmp_path: Path) -> None:
    assert Summary.read(tmp_path) is None
    assert Summary.read(tmp_path / "absent") is None


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_summary_that_holds_something_else_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / record.SUMMARY).write_text(content)
    with pytest.raises(UserError, match=r"summary\.json is not a record"):
        Summary.read(tmp_path)
    assert Summary.peek(tmp_path) is None


ROWS_OF_HISTORY = (
    "0,10,0.1,1.0,0.5,0.6,1.0,0.55,90.0,0.75\n1,20,0.1,nan,0.6,0.7,1.0,0.65,90.0,0.5\n"
    "2,30,0.01,1.0,0.6,0.7,1.0,0.65,90.0,0.25\n"
)


def test_a_history_is_read_by_epoch_and_written_as_it_was(tmp_path: Path) -> None:
    content = f"{','.join(record.HISTORY_COLUMNS)}\n{ROWS_OF_HISTORY}"
    (tmp_path / record.HISTORY).write_text(content)
    history = History.read(tmp_path)
    assert [epoch.val_accuracy for epoch in history.epochs] == [0.55, 0.65, 0.65]
    assert (history.best.epoch, history.best.step) == (1, 20), "the first of equally good ones"
    history.write(tmp_path / "again")
    assert (tmp_path / "again/history.csv").read_text() == content
    assert replace(history, primary_metric="balanced_accuracy").best.epoch == 0


def test_averages_are_read_by_row_and_written_as_they_were(tmp_path: Path) -> None:
    content = (
        "epoch,step,window,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,weight_norm\n"
        "0,10,0.0,0.5,0.75,0.625,0.7,,,2.5\n"
        "1,20,0.1,0.25,0.875,0.375,0.8,0.4,0.85,3.5\n"
    )
    (tmp_path / "averages.csv").write_text(content)
    averages = Averages.read(tmp_path)
    first, last = averages.rows
    assert (first.epoch, first.step, first.window, first.test_loss, first.test_accuracy) == (0, 10, 0, None, None)
    assert (last.val_accuracy, last.test_loss, last.test_accuracy, last.weight_norm) == (0.8, 0.4, 0.85, 3.5)
    averages.write(tmp_path / "again")
    assert (tmp_path / "again/averages.csv").read_text() == content


@pytest.mark.parametrize("content", [None, "epoch,step\n0,10\n", "\n", "no table"])
def test_a_folder_without_averages_has_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "averages.csv").write_text(content)
    assert Averages.read(tmp_path).rows == ()


def test_a_history_without_the_balanced_accuracy_has_none(tmp_path: Path) -> None:
    columns = ",".join(record.HISTORY_COLUMNS[:-1])
    (tmp_path / record.HISTORY).write_text(f"{columns}\n0,10,0.1,1.0,0.5,0.6,1.0,0.55,90.0\n")
    (epoch,) = History.read(tmp_path).epochs
    assert (epoch.images_per_second, epoch.val_balanced_accuracy) == (90.0, None)


@pytest.mark.parametrize("key", ["val_balanced_accuracy", "val_balanced_accuracy_tta", "test_balanced_accuracy"])
def test_a_run_that_balanced_accuracy_chose_has_all_of_them(key: str) -> None:
    accuracies = {"val_accuracy": 0.9, "test_accuracy": 0.9}
    assert Summary(status=Status.COMPLETED, **accuracies).metric == "accuracy", "as of all records without the key"
    balanced = {f"{split}_balanced_accuracy": 0.9 for split in ("val", "test")} | {"val_balanced_accuracy_tta": 0.9}
    whole = accuracies | balanced | {"primary_metric": "balanced_accuracy"}
    assert Summary(status=Status.COMPLETED, **whole).metric == "balanced_accuracy"
    with pytest.raises(ValueError, match=f"completed, but {key} is null"):
        Summary(status=Status.COMPLETED, **whole | {key: None})


@pytest.mark.parametrize("rows", ["0,10", "0,10,0.1,1,0.5,0.6,1,much,90", ""])
def test_a_history_that_cannot_be_read_is_empty(tmp_path: Path, rows: str) -> None:
    (tmp_path / record.HISTORY).write_text(f"{','.join(record.HISTORY_COLUMNS)}\n{rows}")
    assert History.read(tmp_path) == History()
    assert History.read(tmp_path / "none") == History()


def test_a_gradient_noise_is_read_by_epoch_and_written_as_it_was(tmp_path: Path) -> None:
    rows = "0,10,16,1024,4,6.5,0.625,0.5,98.0,196.0\n1,20,16,1024,4,3.5,0.03125,-0.015625,54.5,\n"
    content = f"{','.join(record.GRADIENT_NOISE_COLUMNS)}\n{rows}"
    (tmp_path / record.GRADIENT_NOISE).write_text(content)
    measured = GradientNoise.read(tmp_path)
    assert [epoch.noise_scale for epoch in measured.epochs] == [196, None]
    assert (measured.epochs[1].signal, measured.epochs[1].large_batch) == (-0.015625, 1024)
    measured.write(tmp_path / "again")
    assert (tmp_path / "again/gradient_noise.csv").read_text() == content
    for text in (content.replace("98.0", "many"), "epoch,step\n0,10\n"):
        (tmp_path / record.GRADIENT_NOISE).write_text(text)
        assert GradientNoise.read(tmp_path) == GradientNoise()
    assert GradientNoise.read(tmp_path / "none") == GradientNoise()


HEAD = "split,path,label,predicted,ice,sea\n"
ROWS = 'val,ice/1.jpg,0,1,0.25,0.75\ntest,sea/2.jpg,1,1,0.1,0.9\nval,"sea/3,4.jpg",1,1,0.4,0.6\n'


def predictions(folder: Path, text: str) -> Path:
    (folder / "predictions.csv").write_text(text)
    return folder


def test_a_split_of_predictions_is_read_in_its_order(tmp_path: Path) -> None:
    found = Predictions.read(predictions(tmp_path, HEAD + ROWS), "val")
    assert found.paths == ["ice/1.jpg", "sea/3,4.jpg"]
    np.testing.assert_array_equal(found.labels, [0, 1])
    np.testing.assert_array_equal(found.predicted, [1, 1])
    np.testing.assert_array_equal(found.probabilities, [[0.25, 0.75], [0.4, 0.6]])


@pytest.mark.parametrize("rows", [ROWS, ROWS.replace('"sea/3,4.jpg"', "sea/34.jpg")], ids=["a comma", "no comma"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_labels_alone_are_those_that_are_read_with_probabilities(tmp_path: Path, rows: str, split: str) -> None:
    predictions(tmp_path, HEAD + rows)
    whole, alone = Predictions.read(tmp_path, split), Predictions.read_classes(tmp_path)[split]
    assert alone.paths == whole.paths
    np.testing.assert_array_equal(alone.labels, whole.labels)
    np.testing.assert_array_equal(alone.predicted, whole.predicted)
    assert alone.probabilities.shape == (len(whole.paths), 0)


def test_predictions_are_written_as_they_are_read(tmp_path: Path) -> None:
    rows = 'val,ice/1.jpg,0,1,0.25,0.75\nval,"sea/3,4.jpg",1,1,0.4,0.6\ntest,sea/2.jpg,1,1,0.1,0.9\n'
    predictions(tmp_path, HEAD + rows)
    splits = {split: Predictions.read(tmp_path, split) for split in ("val", "test")}
    Predictions.write(tmp_path / "again", ("ice", "sea"), splits)
    assert (tmp_path / "again/predictions.csv").read_text() == HEAD + rows


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD + "test,sea/2.jpg,1,1,0.1,0.9\n",
        HEAD + ROWS + "val,ice/5.jpg,0,1,0.25\n",
        HEAD + ROWS + "val,ice/5.jpg,0,1,0.25,much\n",
        HEAD + ROWS + "val,ice/5.jpg,2,1,0.25,0.75\n",
        HEAD + ROWS + "val,ice/5.jpg,0,2,0.25,0.75\n",
        HEAD + ROWS + "val,ice/5.jpg,-1,1,0.25,0.75\n",
        HEAD + "\n" + ROWS,
    ],
    ids=["empty", "another split", "cut off", "no number", "no class", "none predicted", "negative", "an empty line"],
)
def test_corrupt_predictions_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read \(.+\): remove its folder and train again$"):
        Predictions.read(predictions(tmp_path, text), "val")


@pytest.mark.parametrize("row", ["val,ice/5.jpg", "val,ice/5.jpg,0,1", "val,ice/5.jpg,,1,", "val,ice/5.jpg,-1,1,"])
@pytest.mark.parametrize("others", ["", "val,ice/1.jpg,0,1,0.25,0.75\n", 'test,"a,b.jpg",0,1,0.25,0.75\n'])
def test_corrupt_labels_are_named(tmp_path: Path, row: str, others: str) -> None:
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read \(.+\): remove its folder and train again$"):
        Predictions.read_classes(predictions(tmp_path, f"{HEAD}{others}{row}\ntest,sea/2.jpg,1,1,0.1,0.9\n"))


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read \(.+\): remove its folder and train again$"):
        Predictions.read(tmp_path, "val")


# As version 0.2 wrote them.
PLAN = """\
question: null
compared: []
tuned:
- lr_scale
searched:
  lr_scale:
  - 0.1
  - 10
  - 1
seeds:
- '1'
- '2'
primary_metric: val_accuracy_tta chooses, test_accuracy of what was chosen is compared
threads: 1
fixed:
- epochs=1
swept:
- lr_scale
- optim
date: '2026-11-29T09:35:52+00:00'
command: python -m intel_scenes.train -m epochs=1 optim=sgd,adamw seed=1,2
commit: null
planned:
- optim=sgd,seed=1
- optim=sgd,seed=2
added:
- date: '2026-11-29T09:36:30+00:00'
  command: python -m intel_scenes.train -m epochs=1 optim=sgd,adamw seed=1,2,3
  runs:
  - optim=sgd,seed=3
- date: '2026-11-29T09:37:38+00:00'
  command: python -m intel_scenes.train -m epochs=1 'study.question=Größer?'
  runs: []
  changed:
    question:
    - null
    - Größer?
    compared:
    - []
    - - optim
twins:
  optim=sgd,lr_scale=1.0: optim=sgd
fitted_epochs:
  abc: 3
budgets:
- minutes: 20.0
  of: def
  epochs: 7
  cut:
  - lr_scale=10
  confirm: 3
  predicted_minutes: 18.5
  date: '2026-11-29T09:35:40+00:00'
"""
CONFIRMED_PLAN = PLAN.replace(
    "twins:\n",
    """\
confirmed:
- date: '2026-11-29T09:40:00+00:00'
  command: python -m intel_scenes.train -m epochs=1 optim=sgd,adamw seed=1,2 sweep.confirm=1
  arms:
  - label: sgd
    overrides:
    - epochs=1
    - optim=sgd
    chosen_by:
    - '1'
    - '2'
    seeds:
    - '101'
    runs:
    - optim=sgd,seed=101
- date: null
  command: null
  arms:
  - label: sgd
    overrides:
    - epochs=1
    - optim=sgd
    chosen_by: []
    seeds:
    - '102'
    runs:
    - optim=sgd,seed=102
baselines:
- label: sgd
  date: '2026-11-29T09:41:00+00:00'
  num_completed: 3
  num_confirming: 1
twins:
""",
)
OLDER_PLAN = """\
question: Which optimizer?
compared:
- optim
tuned: []
searched: {}
seeds:
- '1'
threads: 2
date: '2026-01-01T00:00:00+00:00'
command: python -m intel_scenes.train -m optim=sgd,adam
commit: abc
planned:
- optim=sgd
added: []
note: by hand
"""


@pytest.mark.parametrize("text", [PLAN, CONFIRMED_PLAN, OLDER_PLAN], ids=["0.2", "confirmed", "older"])
def test_a_plan_is_written_as_it_was_read(tmp_path: Path, text: str) -> None:
    (tmp_path / record.STUDY).write_text(text)
    plan = record.read_study(tmp_path)
    assert plan is not None
    record.write_study(tmp_path, plan)
    assert (tmp_path / record.STUDY).read_text() == text


def test_a_plan_has_typed_fields_and_all_its_runs(tmp_path: Path) -> None:
    (tmp_path / record.STUDY).write_text(PLAN)
    plan = record.read_study(tmp_path)
    assert plan is not None
    assert plan.searched == {"lr_scale": record.Interval(0.1, 10, is_log=True)}
    assert plan.added[1].changed == {"question": (None, "Größer?"), "compared": ((), ("optim",))}
    assert (plan.question, plan.tuned, plan.fixed, plan.fitted_epochs) == (
        None,
        ("lr_scale",),
        ("epochs=1",),
        {"abc": 3},
    )
    assert plan.all_planned == ("optim=sgd,seed=1", "optim=sgd,seed=2", "optim=sgd,seed=3")


def test_a_plan_tells_what_confirms_from_what_may_choose(tmp_path: Path) -> None:
    (tmp_path / record.STUDY).write_text(CONFIRMED_PLAN)
    plan = record.read_study(tmp_path)
    assert plan is not None
    assert plan.confirming_runs == ("optim=sgd,seed=101", "optim=sgd,seed=102")
    assert plan.tuning_runs == ("optim=sgd,seed=1", "optim=sgd,seed=2", "optim=sgd,seed=3")
    assert plan.all_planned == (*plan.tuning_runs, *plan.confirming_runs)
    (arm,) = plan.confirmed_arms
    assert (arm.label, arm.chosen_by, arm.seeds) == ("sgd", ("1", "2"), ("101", "102"))
    assert plan.baselines == (record.Baseline("sgd", "2026-11-29T09:41:00+00:00", 3, 1),)


def test_a_plan_written_by_hand_may_lack_every_key(tmp_path: Path) -> None:
    assert record.read_study(tmp_path) is None
    (tmp_path / record.STUDY).write_text("{}")
    assert record.read_study(tmp_path) == record.StudyPlan()
    (tmp_path / record.STUDY).write_text("date: 2026-11-29\ncommand: 3\nadded: [{}]\n")
    plan = record.StudyPlan(date="2026-11-29", added=(record.Addition(),))
    assert record.read_study(tmp_path) == plan, "a command is a text"


@pytest.mark.parametrize(
    "content",
    [
        *("", "[", "- 1", "abc", "tuned: 3", "tuned: abc", "planned: 3", "added: [x]", "added: [{runs: 3}]"),
        *("threads: many", "searched: {lr_scale: [1]}", "searched: [lr_scale]", "twins: [a]"),
        *("confirmed: [a]", "confirmed: [{arms: [{label: a, seeds: [1], runs: []}]}]", "baselines: [sgd]"),
    ],
)
def test_a_plan_that_is_none_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / record.STUDY).write_text(content)
    with pytest.raises(UserError, match=r"study\.yaml .*: correct it, or move it away"):
        record.read_study(tmp_path)
