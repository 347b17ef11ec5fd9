import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from intel_scenes import record
from intel_scenes.data.layouts import find_splits
from intel_scenes.errors import UserError
from intel_scenes.inference import labelled
from intel_scenes.inference.ensembles import predict_again
from intel_scenes.inference.labelled import FolderEvaluation, FolderScores, class_scores, evaluate_folder
from intel_scenes.inference.labelled_files import write_evaluation
from intel_scenes.inference.labelled_text import evaluation_text
from intel_scenes.inference.load_run import FinishedRun, load_run
from intel_scenes.inference.paired import PairedDifference
from intel_scenes.models.predicting import probabilities
from intel_scenes.probabilities import balanced_accuracy, macro_f1
from intel_scenes.record import Summary

Run = Callable[..., Summary]
TINY = ("model=resnet9_x0_5", "recipe=plain", "epochs=1")


@pytest.fixture(scope="module")
def runs(run_in: Run, tmp_path_factory: pytest.TempPathFactory) -> list[FinishedRun]:
    """Two runs that differ in their seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        run_in(folder / f"seed{seed}", *TINY, f"seed={seed}")
    return [load_run(folder / f"seed{seed}") for seed in (1, 2)]


@pytest.fixture(scope="module")
def images(runs: list[FinishedRun]) -> Path:
    """The folder of the images of the runs."""
    folder = runs[0].summary.test_folder
    assert folder is not None
    return Path(folder).parent


@pytest.fixture(scope="module")
def evaluation(runs: list[FinishedRun], images: Path) -> FolderEvaluation:
    return evaluate_folder(runs, images, "test")


def test_the_own_test_split_repeats_the_record_to_the_last_digit(
    runs: list[FinishedRun], evaluation: FolderEvaluation
) -> None:
    for run, row, predictions in zip(runs, evaluation.rows, evaluation.predictions, strict=False):
        summary = run.summary
        assert (row.accuracy, row.loss, row.ece) == (summary.test_accuracy, summary.test_loss, summary.test_ece)
        assert row.accuracy_interval == summary.test_accuracy_interval
        assert row.temperature == summary.temperature
        assert (row.loss_calibrated, row.ece_calibrated) == (summary.test_loss_calibrated, summary.test_ece_calibrated)
        assert row.confusion == summary.test_confusion
        assert predictions.paths == run.predictions["test"].paths
        assert (predictions.probabilities == run.predictions["test"].probabilities).all()
    assert evaluation.notices == ()


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mobilenet_v3_small", "recipe=linear_probe", "data.batch_size=32"),
        (*TINY, "recipe.views=flip_crops", "data.batch_size=54", "data.store_rule=whole"),
    ],
)
def test_a_frozen_backbone_and_ten_crop_repeat_the_record_to_the_last_digit(
    run: Run, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    summary = run("epochs=1", *overrides)
    (row,) = evaluate_folder([load_run(tmp_path / "run")], Path(summary.test_folder or "").parent, "test").rows
    assert (row.accuracy, row.loss, row.ece) == (summary.test_accuracy, summary.test_loss, summary.test_ece)


def test_a_run_computes_on_as_many_threads_as_it_did(
    runs: list[FinishedRun], images: Path, on_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def noted(*arguments: Any) -> Any:
        used.append(torch.get_num_threads())
        return probabilities(*arguments)

    monkeypatch.setattr(labelled, "probabilities", noted)
    on_threads(3)
    evaluate_folder(runs[:1], images, "test")
    assert (used, torch.get_num_threads()) == ([runs[0].summary.threads], 3)


def test_scores_are_those_of_scikit_learn(evaluation: FolderEvaluation) -> None:
    for row, predictions in zip(evaluation.rows, evaluation.predictions, strict=True):
        labels, predicted = predictions.labels, predictions.predicted
        shares = metrics.precision_recall_fscore_support(labels, predicted, labels=range(6), zero_division=np.nan)
        ours = [
            [np.nan if value is None else value for value in of_class]
            for of_class in zip(
                *((one.precision, one.recall, one.f1, one.num_images) for one in row.classes), strict=True
            )
        ]
        np.testing.assert_allclose(ours, shares, rtol=0, atol=1e-12)
        assert abs(row.accuracy - metrics.accuracy_score(labels, predicted)) < 1e-12
        assert abs(row.balanced_accuracy - metrics.balanced_accuracy_score(labels, predicted)) < 1e-12
        assert abs(row.macro_f1 - metrics.f1_score(labels, predicted, average="macro")) < 1e-12
        assert abs(row.loss - metrics.log_loss(labels, predictions.probabilities, labels=range(6))) < 1e-12
        assert (np.array(row.confusion) == metrics.confusion_matrix(labels, predicted, labels=range(6))).all()


def test_an_undefined_score_of_a_class_is_none() -> None:
    # Of three classes the second has no images and is predicted once; the third is never predicted.
    confusion = [[3, 1, 0], [0, 0, 0], [2, 0, 0]]
    first, second, third = class_scores(confusion, "abc")
    assert (first.precision, first.recall, first.f1) == (3 / 5, 3 / 4, 6 / 9)
    assert (second.precision, second.recall, second.f1) == (0, None, 0)
    assert (third.precision, third.recall, third.f1) == (None, 0, 0)
    assert balanced_accuracy(confusion) == (3 / 4 + 0) / 2
    assert macro_f1(confusion) == pytest.approx((6 / 9 + 0 + 0) / 3)


def test_several_runs_are_shown_alone_with_their_mean_and_image_by_image(
    runs: list[FinishedRun], evaluation: FolderEvaluation
) -> None:
    assert [row.name for row in evaluation.rows] == [*(str(run.folder) for run in runs), "mean of 2"]
    mean = np.mean([run.probabilities["test"] for run in runs], axis=0)
    labels = runs[0].labels["test"]
    assert evaluation.rows[-1].accuracy == metrics.accuracy_score(labels, mean.argmax(1))
    (pair,) = evaluation.pairs
    one, two = (run.predictions["test"].predicted == labels for run in runs)
    assert (pair.first, pair.second) == (str(runs[1].folder), str(runs[0].folder))
    assert pair.difference == pytest.approx(two.mean() - one.mean())
    assert (pair.num_first_only, pair.num_second_only) == ((two & ~one).sum(), (one & ~two).sum())


def test_of_several_runs_each_has_a_line_and_each_pair_too() -> None:
    row = FolderScores(
        name="a",
        accuracy=0.5,
        accuracy_interval=(0.25, 0.75),
        balanced_accuracy=0.5,
        macro_f1=0.4,
        loss=0.7,
        ece=0.1,
        temperature=None,
        loss_calibrated=None,
        ece_calibrated=None,
        classes=(),
        confusion=(),
    )
    rows = (row, replace(row, name="b"), replace(row, name="mean of 2"))
    pair = PairedDifference("b", "a", 0.01, (-0.002, 0.022), 30, 20, 0.2)
    found = FolderEvaluation(Path("photos"), "test", ("x", "y"), 1000, None, rows, (pair,), (), (), ())
    heading, first, _, mean, *_, difference = evaluation_text(found).splitlines()
    assert heading == "1,000 test images of photos"
    assert first == (
        "1  accuracy  50.0 % (25.0 % to 75.0 %)  balanced  50.0 %  macro F1  40.0 %  loss 0.700  "
        "calibration error 0.100  a"
    )
    assert mean.endswith("  mean of 2")
    assert difference == (
        "2 minus 1   +1.00 points (-0.20 to +2.20)  McNemar p = 0.2; only 2 is correct on 30 images, only 1 on 20"
    )


def test_a_folder_with_some_of_the_classes_is_evaluated_on_those(
    runs: list[FinishedRun], images: Path, tmp_path: Path
) -> None:
    own = find_splits(images)["test"]
    for name in ("forest", "sea"):
        shutil.copytree(own / name, tmp_path / "some" / name)
    (row,) = evaluate_folder(runs[:1], tmp_path / "some").rows
    of_all = runs[0].predictions["test"]
    number_of = {name: number for number, name in enumerate(runs[0].summary.classes or ())}
    kept = np.isin(of_all.labels, [number_of["forest"], number_of["sea"]])
    assert row.accuracy == metrics.accuracy_score(of_all.labels[kept], of_all.predicted[kept])
    assert [one.name for one in row.classes if one.recall is None] == ["buildings", "glacier", "mountain", "street"]


def test_a_labels_file_takes_the_place_of_class_folders(
    runs: list[FinishedRun], images: Path, evaluation: FolderEvaluation, tmp_path: Path
) -> None:
    own, file = find_splits(images)["test"], tmp_path / "labels.csv"
    lines = [f"{path},{path.partition('/')[0]}" for path in evaluation.predictions[0].paths]
    file.write_text("\n".join(["path,label", *lines]))
    (row,) = evaluate_folder(runs[:1], own, labels=file).rows
    assert (row.accuracy, row.loss) == (evaluation.rows[0].accuracy, evaluation.rows[0].loss)


def test_images_that_cannot_be_decoded_are_named_and_the_rest_evaluated(
    runs: list[FinishedRun], images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(find_splits(images)["test"], tmp_path / "test")
    (tmp_path / "test/sea/broken.jpg").write_bytes(b"no image")
    evaluation = evaluate_folder(runs, tmp_path / "test")
    assert evaluation.num_images == 30
    assert evaluation.skipped == ("sea/broken.jpg (no image format that Pillow knows)",)
    assert "1 image could not be decoded; skipped: sea/broken.jpg" in caplog.text
    assert evaluation.rows[0].accuracy == runs[0].summary.test_accuracy


def test_another_device_or_number_of_threads_is_a_notice(
    runs: list[FinishedRun], images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run, _), elsewhere = runs, {"device": "NVIDIA H200", "threads": 10_000}
    other = replace(run, summary=replace(run.summary, **elsewhere))
    (notice,) = evaluate_folder([other], images, "test").notices
    assert notice.startswith(f"{run.folder} is evaluated on cpu ")
    assert " instead of NVIDIA H200 and on " in notice
    assert notice.endswith(" instead of 10000: the last digits may differ from its record")
    assert notice in caplog.text


def test_a_folder_that_a_run_was_trained_on_is_a_notice(runs: list[FinishedRun], images: Path, tmp_path: Path) -> None:
    shutil.copytree(find_splits(images)["test"], tmp_path / "whole")
    run, config = replace(runs[0]), runs[0].config
    run.__dict__["config"] = replace(config, data=replace(config.data, source="folder", root=str(tmp_path / "whole")))
    (notice,) = evaluate_folder([run], tmp_path / "whole").notices
    assert (
        notice == f"{run.folder} was trained on images of {tmp_path / 'whole'}: its scores on them are too optimistic"
    )
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["path,label", *(f"{name}/{name}.png,{name}" for name in ("forest", "sea"))]))
    for name in ("forest", "sea"):
        next((tmp_path / "whole" / name).iterdir()).rename(tmp_path / "whole" / name / f"{name}.png")
    run.__dict__["config"] = replace(config, data=replace(config.data, source="folder", root=None, labels=str(file)))
    (notice,) = evaluate_folder([run], tmp_path / "whole", labels=file).notices
    assert notice.startswith(f"{run.folder} was trained on images of {file}: ")


def test_the_written_files_hold_the_scores(evaluation: FolderEvaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path / "found")
    written = sorted(str(path.relative_to(tmp_path / "found")) for path in (tmp_path / "found").rglob("*.*"))
    of_one = ("classes.csv", "confusion.csv", "confusion.png", "predictions.csv", "reliability.csv", "reliability.png")
    assert written == sorted(
        ["metrics.json", "pairs.csv", *(f"{row}/{name}" for row in ("mean", "run1", "run2") for name in of_one)]
    )
    found = json.loads((tmp_path / "found/metrics.json").read_text())
    assert [row["accuracy"] for row in found["rows"]] == [row.accuracy for row in evaluation.rows]
    assert found["pairs"][0]["difference"] == evaluation.pairs[0].difference
    again = record.Predictions.read(tmp_path / "found/run1", "test")
    assert (again.probabilities == evaluation.predictions[0].probabilities).all()
    with (tmp_path / "found/run1/confusion.csv").open() as file:
        heading, *rows = csv.reader(file)
    assert heading == ["true", *evaluation.classes]
    assert [[int(count) for count in row[1:]] for row in rows] == [list(row) for row in evaluation.rows[0].confusion]
    for name in ("confusion.png", "reliability.png"):
        with Image.open(tmp_path / "found/run1" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10  # no blank page


def test_what_cannot_be_evaluated_is_one_sentence(runs: list[FinishedRun], images: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        with pytest.raises(UserError) as caught:
            evaluate_folder(*arguments)  # type: ignore[arg-type]
        return str(caught.value)

    run = runs[0]
    assert said([run], images, "val") == f"{images} has no val split: choose split=train or split=test"
    own = find_splits(images)["test"]
    shutil.copytree(own, tmp_path / "other")
    (tmp_path / "other/forest").rename(tmp_path / "other/wood")
    names = ["buildings", "glacier", "mountain", "sea", "street"]
    assert said([run], tmp_path / "other") == (
        f"{tmp_path / 'other'} has classes that {run.folder} does not have (wood): the folder has "
        f"{', '.join([*names, 'wood'])}, the run {', '.join(['buildings', 'forest', *names[1:]])}; rename or remove "
        "the class folders"
    )
    (tmp_path / "empty").mkdir()
    assert said([run], tmp_path / "empty").startswith(f"the folder {tmp_path / 'empty'} has no images: ")
    other = replace(runs[1], summary=replace(runs[1].summary, classes=("a", "b")))
    assert said([run, other], images, "test").endswith("have different classes: evaluate them one at a time")


@pytest.mark.parametrize("content", [None, b"no checkpoint", {"state_dict": {"network.conv.weight": torch.ones(2)}}])
def test_a_missing_corrupt_or_foreign_checkpoint_is_named(
    runs: list[FinishedRun], images: Path, tmp_path: Path, content: object
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs[0].folder, copy)
    (copy / record.BEST).unlink()
    if isinstance(content, bytes):
        (copy / record.BEST).write_bytes(content)
    elif content:
        torch.save(content, copy / record.BEST)
    said = (
        "does not fit resnet9_x0_5, so it is corrupt or of another run"
        if isinstance(content, dict)
        else "is missing or (damaged|corrupt)"
    )
    for evaluate in (lambda run: evaluate_folder([run], images, "test"), lambda run: predict_again(run, "flip")):
        with pytest.raises(UserError, match=rf"/best\.ckpt {said}.* remove the folder .*/run and .* again$"):
            evaluate(load_run(copy))
