"""The class Run, compared with the files of its record."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.inference.run import Run, load_run
from intel_scenes.record import Summary


@pytest.fixture(scope="module")
def run(run_in: Callable[..., Summary], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    run_in(folder, "data.image_size=32", "epochs=2", "data.crop_fraction=0.8")
    return load_run(folder)


def rows(run: Run, name: str) -> list[dict[str, str]]:
    with (run.folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def images_of_test(run: Run) -> list[Path]:
    assert run.summary.test_folder is not None
    return [
        Path(run.summary.test_folder, row["path"]) for row in rows(run, record.PREDICTIONS) if row["split"] == "test"
    ]


def test_history_and_predictions_are_the_columns_of_their_files(run: Run) -> None:
    history, written = run.history(), rows(run, record.HISTORY)
    assert history.names == tuple(written[0])
    assert history["epoch"].dtype == np.int64
    assert history["val_loss"].tolist() == [float(row["val_loss"]) for row in written]
    predictions, written = run.predictions(), rows(run, record.PREDICTIONS)
    assert predictions.names == tuple(written[0])
    for name in ("split", "path"):
        assert predictions[name].tolist() == [row[name] for row in written]
    assert predictions["label"].tolist() == [int(row["label"]) for row in written]
    assert predictions["sea"].tolist() == [float(row["sea"]) for row in written]
    is_test = predictions["split"] == "test"
    is_right = predictions["label"][is_test] == predictions["predicted"][is_test]
    assert is_right.mean() == run.summary.test_accuracy


def test_the_network_takes_stored_images_to_the_probabilities_of_the_record(run: Run) -> None:
    network = run.network()
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in images_of_test(run)])
    stored = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        of_bytes = network(stored).softmax(1).numpy()
        of_floats = network(stored / 255).softmax(1).numpy()
    predictions = run.predictions()
    expected = np.stack([predictions[name][predictions["split"] == "test"] for name in network.classes], axis=1)
    np.testing.assert_allclose(of_bytes, expected, atol=1e-5)
    np.testing.assert_allclose(of_floats, expected, atol=5e-3)  # resized without rounding to bytes
    assert network.classes == run.summary.classes
    assert network.temperature == run.summary.temperature
    assert not network.training


def test_gradients_flow_through_the_preprocessing_though_others_were_predicted_before(run: Run) -> None:
    run.predict(images_of_test(run)[0])  # in inference mode, whose tensors no graph may hold
    images = torch.rand(2, 3, 50, 70, requires_grad=True)
    run.network()(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_the_network_refuses_another_layout(run: Run) -> None:
    with pytest.raises(ValueError, match=r"images have shape \(1, 20, 20, 3\), but must be \(B, 3, H, W\)"):
        run.network()(torch.rand(1, 20, 20, 3))


def test_files_images_and_arrays_are_predicted_alike(run: Run) -> None:
    path = images_of_test(run)[0]
    image = Image.open(path)
    array = np.asarray(image.convert("RGB"))
    table = run.predict([str(path), image, array, array / 255])
    assert table["path"].tolist() == [str(path), str(path), "2", "3"]
    assert len(set(table["class"])) == 1
    np.testing.assert_allclose(table["probability"], table["probability"][0], atol=1e-6)
    for other in (path, image, array, array[None], path.with_name(f"?{path.name[1:]}")):
        np.testing.assert_allclose(run.predict(other)["probability"][0], table["probability"][0], atol=1e-6)


def test_a_folder_is_predicted_and_may_be_left_open(run: Run) -> None:
    images = images_of_test(run)
    table = run.predict(images[0].parents[1], abstain=1.0)
    assert table["path"].tolist() == sorted(map(str, images))
    assert set(table["class"]) == {None}
    flipped = run.predict(images, views="flip")
    assert not np.allclose(flipped["probability"], run.predict(images)["probability"])


def test_labelled_images_are_evaluated_as_the_record_says(run: Run, tmp_path: Path) -> None:
    found = run.evaluate(images_of_test(run)[0].parents[1], cache_dir=tmp_path)
    assert list(tmp_path.iterdir()), "and not where the record says, which may be a stranger's"
    assert found.rows[0].accuracy == run.summary.test_accuracy
    assert found.rows[0].loss == pytest.approx(run.summary.test_loss, abs=1e-6)


def test_a_misspelt_argument_is_one_sentence(run: Run) -> None:
    with pytest.raises(UserError, match=r"^views=flop must be one of 1, flip, flip_crops \(did you mean flip\?\)$"):
        run.predict(images_of_test(run), views="flop")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^abstain=90 must be a number from 0 to 1$"):
        run.predict(images_of_test(run), abstain=90)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "images is empty: give a folder, files, PIL images or arrays"),
        ("none", "images=none: there is no such file or folder; give a folder, a file or a pattern"),
        (
            np.zeros((3, 20, 20), np.uint8),
            "an array of shape (3, 20, 20) and type uint8 is not an image: give (H, W), (H, W, 3) or (H, W, 4) of "
            "uint8, or of floats in 0..1; pass tensors to run.network()",
        ),
        (
            np.full((4, 4), 200.0),
            "an array of floats must lie in 0..1: divide it by its maximum value, or convert it to uint8",
        ),
    ],
)
def test_what_is_no_image_is_one_sentence(run: Run, images: object, said: str) -> None:
    with pytest.raises(UserError) as error:
        run.predict(images)  # type: ignore[arg-type]
    assert str(error.value) == said


def test_a_notebook_shows_settings_results_and_curves(run: Run) -> None:
    page = run._repr_html_()
    assert f"{100 * run.summary.test_accuracy:.1f} %" in page
    assert "resnet9_x0_5" in page
    assert '<img src="data:image/png;base64,iVBOR' in page
    assert repr(run).startswith(f"Run('{run.folder}': resnet9_x0_5, test accuracy")


def changed(run: Run, folder: Path, **values: object) -> Run:
    """Return a copy of a run with an edited record."""
    shutil.copytree(run.folder, folder)
    path = folder / record.SUMMARY
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return load_run(folder)


def test_hostile_values_in_a_record_do_no_harm(run: Run, tmp_path: Path) -> None:
    image = images_of_test(run)[0]
    with pytest.raises(UserError, match=r"summary\.json is corrupt: precision=a must be one of "):
        changed(run, tmp_path / "a", precision="a").predict(image)
    balanced = changed(run, tmp_path / "c", primary_metric=record.BALANCED, test_balanced_accuracy=0.123)
    assert "12.3 %" in balanced._repr_html_()
    of_zero = changed(run, tmp_path / "b", temperature=0)
    np.testing.assert_allclose(of_zero.predict(image)["probability"], run.predict(image)["probability"], rtol=1e-3)
    (of_zero.folder / record.CURVES).unlink()
    (of_zero.folder / record.CURVES).symlink_to(of_zero.folder / record.CONFIG)
    assert "<img" not in of_zero._repr_html_(), "a link to a file that is no picture"


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (None, "holds no run (no summary.json): give the folder of a finished run"),
        (
            '{"status": "interrupted"}',
            "holds a run that is not finished (interrupted): repeat its command to resume it, or give another run",
        ),
        ("corrupt", "holds no run (its summary.json is corrupt): give the folder of a finished run"),
    ],
)
def test_a_folder_without_a_finished_run_is_one_sentence(tmp_path: Path, summary: str | None, said: str) -> None:
    if summary is not None:
        (tmp_path / record.SUMMARY).write_text(summary)
    with pytest.raises(UserError) as error:
        load_run(tmp_path)
    assert str(error.value) == f"{tmp_path} {said}"


def test_a_record_is_opened_before_its_other_files_are_read(tmp_path: Path) -> None:
    (tmp_path / record.SUMMARY).write_text(
        '{"status": "completed", "val_accuracy": 0.5, "test_accuracy": 0.5, "recipe": "<b>"}'
    )
    run = load_run(tmp_path)
    assert "&lt;b&gt;" in run._repr_html_(), "a stranger's words are no part of the page"
    assert run.summary.test_accuracy == 0.5
    with pytest.raises(UserError, match=r"history\.csv is missing or corrupt: train again"):
        run.history()
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read"):
        run.predictions()
    with pytest.raises(UserError, match=r"config\.yaml cannot be read|names no classes"):
        run.network()
