"""Predictions for images, compared with those in the record of the same run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.inference.load_run import load_run
from intel_scenes.inference.predict import Predicted, predict
from intel_scenes.inference.trained import Trained, trained
from intel_scenes.record import Predictions, Summary
from intel_scenes.training.checkpoints import is_whole

Run = Callable[..., Summary]
FEW = ("model=resnet9_x0_5", "epochs=1", "optim.lr=0.02")
# Heights and widths: landscape, portrait, square, of odd sides, smaller than what is stored, and longer than 2:1.
SIZES = [(60, 80), (67, 101), (96, 64), (64, 64), (31, 33), (20, 140), (151, 42), (64, 128)]


@pytest.fixture(scope="module")
def squares(run_in: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on drawn squares, evaluated with a center crop."""
    folder = tmp_path_factory.mktemp("squares")
    run_in(folder, *FEW, "data.crop_fraction=0.8")
    return folder


@pytest.fixture(scope="module")
def wholes(run_in: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photographs of all shapes, evaluated with ten-crop."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split in ("seg_train", "seg_test"):
        for name, mean in (("dark", 80), ("light", 170)):
            (root / split / name).mkdir(parents=True)
            for number, (height, width) in enumerate(SIZES * 2):
                coarse = generator.normal(mean, 60, (7, 9, 3)).clip(0, 255).astype(np.uint8)
                image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
                image.save(root / split / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    options = (
        "data=folder",
        f"data.root={root}",
        "data.batch_size=4",
        "data.crop_fraction=0.875",
        "data.val_fraction=0.2",
    )
    folder = tmp_path_factory.mktemp("wholes")
    run_in(folder, *FEW, *options, "recipe.views=flip_crops")
    return folder


def of_folder(folder: Path) -> Trained:
    return trained(load_run(folder, with_predictions=False))


def of_test(folder: Path) -> tuple[list[Path], Predictions, Summary]:
    """Return the files of the test images of a run, their recorded predictions, and the summary."""
    summary = Summary.read(folder)
    assert summary is not None
    assert summary.test_folder is not None
    predictions = Predictions.read(folder, "test")
    return [Path(summary.test_folder, path) for path in predictions.paths], predictions, summary


@pytest.mark.parametrize("kind", ["squares", "wholes"])
def test_probabilities_are_the_calibrated_ones_of_the_record(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    paths, expected, summary = of_test(folder)
    found = predict([of_folder(folder)], paths, expected.paths, batch_size=7)
    assert summary.temperature is not None
    calibrated = torch.from_numpy(expected.probabilities).log().div(summary.temperature).softmax(1).numpy()
    np.testing.assert_allclose(found.probabilities, calibrated, atol=1e-6)
    table = found.table()
    assert table["class"].tolist() == [found.classes[label] for label in expected.predicted]
    assert table["path"].tolist() == expected.paths


def test_images_of_any_mode_and_size_are_seen_in_rgb(squares: Path, tmp_path: Path) -> None:
    one = of_folder(squares)
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8))
    images = [grey.convert(mode) for mode in ("L", "P", "LA", "RGBA", "RGB", "1", "CMYK")]
    images += [
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        Image.new("RGB", (1, 1)),
        Image.new("L", (1, 900)),
    ]
    names = []
    for number, image in enumerate(images):
        names.append(tmp_path / f"{number}.{'tif' if image.mode == 'CMYK' else 'png'}")
        image.save(names[-1])
    found = predict([one], names, list(map(str, names)))
    assert not found.unreadable
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    for place in (1, 2, 3, 4, 7):  # the same grey picture
        np.testing.assert_allclose(found.probabilities[place], found.probabilities[0], atol=1e-6)
    turned = Image.Exif()
    turned[0x0112] = 6
    grey.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    upright = predict([one], [tmp_path / "turned.png"], ["turned"])
    np.testing.assert_allclose(upright.probabilities[0], found.probabilities[0], atol=1e-6)


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted_in_order(
    squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, (paths, _, _) = of_folder(squares), of_test(squares)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:400])
    mixed = [
        tmp_path / "empty.jpg",
        paths[0],
        tmp_path / "text.jpg",
        paths[1],
        tmp_path / "gone.jpg",
        tmp_path / "cut.jpg",
    ]
    found = predict([one], mixed, [path.name for path in mixed])
    alone = predict([one], paths[:2], ["a", "b"])
    np.testing.assert_allclose(found.probabilities[[1, 3]], alone.probabilities, atol=1e-6)
    table = found.table()
    assert [error is None for error in table["error"]] == [False, True, False, True, False, False]
    assert table["error"][0] == "the file is empty"
    assert table["error"][2] == "no image format that Pillow knows"
    assert table["error"][4] == "it cannot be read (No such file or directory)"
    assert table["class"][0] is None
    assert np.isnan(table["probability"][0])
    assert "4 images could not be read; skipped: empty.jpg (the file is empty); text.jpg" in caplog.text
    with pytest.raises(UserError, match=r"^no image can be read \(empty\.jpg: the file is empty\): give other images$"):
        predict([one], mixed[:1], ["empty.jpg"])


def test_several_runs_predict_the_mean_of_their_calibrated_probabilities(squares: Path, tmp_path: Path) -> None:
    other = shutil.copytree(squares, tmp_path / "other")
    config = other / record.CONFIG
    config.write_text(config.read_text().replace("store_size: 40", "store_size: 32"))
    members = [of_folder(squares), trained(load_run(other), views="flip")]
    assert members[0].storing != members[1].storing
    paths, expected, _ = of_test(squares)
    alone = [predict([one], paths, expected.paths).probabilities for one in members]
    together = predict(members, paths, expected.paths).probabilities
    np.testing.assert_allclose(together, (alone[0] + alone[1]) / 2, atol=1e-7)


def test_the_next_two_classes_and_what_is_left_open_stand_in_the_table() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [np.nan] * 3])
    table = Predicted(["x", "y", "z"], ("a", "b", "c"), probabilities, {2: "damaged"}).table(abstain=0.6)
    assert list(table.rows()) == [
        {
            **{"path": "x", "class": "b", "probability": 0.7, "second": "a", "second_probability": 0.2},
            **{"third": "c", "third_probability": 0.1, "left_open": None, "error": None},
        },
        {
            **{"path": "y", "class": None, "probability": 0.5, "second": "b", "second_probability": 0.3},
            **{"third": "c", "third_probability": 0.2, "left_open": "a", "error": None},
        },
        dict.fromkeys(table.names) | {"path": "z", "error": "damaged"},
    ]
    of_two = Predicted(["x"], ("a", "b"), np.array([[0.9, 0.1]]), {}).table()
    assert (of_two["third"][0], of_two["left_open"][0]) == (None, None)
    assert np.isnan(of_two["third_probability"][0])


def test_runs_of_other_classes_are_refused(squares: Path, wholes: Path) -> None:
    with pytest.raises(
        UserError, match=r"have different classes \(dark, light and buildings, .*\): give runs with the same"
    ):
        predict([of_folder(squares), of_folder(wholes)], [Path("a.jpg")], ["a"])


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> object:
        return (Path.touch, (self.place,))


def test_nothing_in_a_received_run_folder_is_executed(squares: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    folder = shutil.copytree(squares, tmp_path / "run")
    config = yaml.safe_load((folder / record.CONFIG).read_text())
    hostile = {"_target_": "os.system", "_args_": f"touch {made}"}
    for section in ("optim", "logger", "data"):
        config[section] |= hostile
    (folder / record.CONFIG).write_text(yaml.safe_dump(config))
    assert of_folder(folder).classes
    custom = config | {"model": config["model"] | hostile | {"library": "custom"}}
    (folder / record.CONFIG).write_text(yaml.safe_dump(custom))
    with pytest.raises(UserError, match=r"is built by os\.system, .*: add trust=true if you trust that file$"):
        of_folder(folder)
    (folder / record.CONFIG).write_text(yaml.safe_dump(config))
    for payload in (Payload(made), {"state_dict": Payload(made)}, {"state_dict": {"network.fc.weight": Payload(made)}}):
        torch.save(payload, folder / record.BEST)
        with pytest.raises(UserError, match=r"best\.ckpt is missing or corrupt \(UnpicklingError\): remove the folder"):
            of_folder(folder)
        assert not is_whole(folder / record.BEST), "as last.ckpt it would not be resumed from"
    (folder / record.CONFIG).write_text(f"model: !!python/object/apply:os.system ['touch {made}']\n")
    with pytest.raises(UserError, match=r"config\.yaml cannot be read \(ValueError: could not .*\): move"):
        of_folder(folder)
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"best\.ckpt is missing or corrupt \(FileNotFoundError\): remove the folder .* and train again$"),
        (b"PK\x03\x04 cut off", r"best\.ckpt is missing or corrupt \(\w+\): remove the folder .* and train again$"),
        (
            {"state_dict": {"network.x": torch.ones(2)}},
            r"best\.ckpt does not fit resnet9_x0_5, so it is corrupt or of another run",
        ),
        ({"state_dict": {"network.x": 3}}, r"best\.ckpt does not fit resnet9_x0_5, so it is corrupt or of another run"),
    ],
)
def test_a_checkpoint_that_is_missing_corrupt_or_of_another_network_is_one_sentence(
    squares: Path, tmp_path: Path, content: object, said: str
) -> None:
    folder = shutil.copytree(squares, tmp_path / "run")
    checkpoint = folder / record.BEST
    checkpoint.unlink()
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    elif content is not None:
        torch.save(content, checkpoint)
    with pytest.raises(UserError, match=said):
        of_folder(folder)
