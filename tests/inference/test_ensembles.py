import csv
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from torchvision import models

from intel_scenes import record
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import UserError
from intel_scenes.inference import ensembles
from intel_scenes.inference.load_run import load_run
from intel_scenes.models.backbones import build
from intel_scenes.models.weights import resolve_weights
from intel_scenes.record import Summary
from intel_scenes.training.build import build_data
from tests.small import DRAWN, SMALL, SMALLEST, asked

Run = Callable[..., Summary]
FEW = (*("model=torchvision", f"model.name={SMALLEST}"), "epochs=1", "optim.lr=0.02", "data.crop_fraction=1.0")


@pytest.fixture(scope="module")
def folders(run_in: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs with different learning rates that started from the same weights, so that they can be averaged."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("members")
    torch.save(models.get_model(SMALLEST, num_classes=6).state_dict(), folder / "weights.pth")
    places = [folder / f"run{number}" for number in range(3)]
    for place, lr in zip(places, (0.005, 0.02, 0.05), strict=True):
        run_in(place, *FEW, f"model.weights={folder / 'weights.pth'}", f"optim.lr={lr}")
    return places


def table(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    with (folder / record.PREDICTIONS).open() as file:
        rows = [list(row.values()) for row in csv.DictReader(file) if row["split"] == split]
    return np.array([[float(value) for value in row[4:]] for row in rows]), np.array([int(row[2]) for row in rows])


def test_the_mean_of_runs_is_scored_as_scikit_learn_does(folders: list[Path]) -> None:
    evaluation = ensembles.evaluate_runs(folders, "mean")
    assert [row.name for row in evaluation.rows] == [*map(str, folders), "mean of 3"]
    tables = [table(folder, "test") for folder in folders]
    average, labels = np.mean([probabilities for probabilities, _ in tables], axis=0), tables[0][1]
    all_of_them = evaluation.rows[-1]
    assert all_of_them.test_accuracy == pytest.approx(accuracy_score(labels, average.argmax(1)))
    assert all_of_them.test_loss == pytest.approx(log_loss(labels, average), rel=1e-6)
    for row, (probabilities, _) in zip(evaluation.rows, tables, strict=False):
        assert row.test_accuracy == pytest.approx(accuracy_score(labels, probabilities.argmax(1)))


def test_the_balanced_accuracy_counts_each_class_alike() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    labels = {"val": np.array([0, 1, 1, 1]), "test": np.array([0, 0, 0, 1])}  # the first class is always predicted
    row = ensembles._row("a", {"val": probabilities, "test": probabilities}, labels)
    assert (row.val_accuracy, row.test_accuracy) == (0.25, 0.75)
    assert (row.val_balanced_accuracy, row.test_balanced_accuracy) == (0.5, 0.5)


def test_a_vote_is_by_majority_and_ties_are_broken_by_the_mean() -> None:
    def of_run(*rows: tuple[float, float, float]) -> dict[str, np.ndarray]:
        return {split: np.array(rows) for split in ("val", "test")}

    runs = [
        of_run((0.5, 0.4, 0.1), (0.9, 0.05, 0.05)),
        of_run((0.5, 0.4, 0.1), (0.3, 0.4, 0.3)),
        of_run((0.0, 1.0, 0.0), (0.3, 0.3, 0.4)),
    ]
    assert ensembles.mean(runs)["test"].argmax(1).tolist() == [1, 0]
    votes = ensembles.vote(runs)["test"]
    assert votes.argmax(1).tolist() == [0, 0]
    np.testing.assert_allclose(votes, [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-5)


def by_mean_weights(folders: list[Path], data: SceneDataModule) -> dict[str, np.ndarray]:
    """Return the predictions of torchvision's network with the mean weights of the runs, for each split."""
    states = [torch.load(folder / record.BEST, weights_only=True)["state_dict"] for folder in folders]
    network = models.get_model(SMALLEST, num_classes=6).eval()
    network.load_state_dict(
        {
            name.removeprefix("network."): torch.stack([state[name] for state in states]).double().mean(0)
            for name in states[0]
        }
    )
    stored = {"val": data.images.batch(data.splits.val), "test": data.test_images.batch(data.splits.test)}
    with torch.inference_mode():
        return {
            split: network(data.pipeline.eval_view(batch.images)).softmax(1).numpy() for split, batch in stored.items()
        }


def images_of(cache: Path) -> SceneDataModule:
    return build_data(asked(*DRAWN, *SMALL, *FEW, f"data.cache_dir={cache}"))


def test_a_soup_has_the_mean_weights_of_its_members(folders: list[Path], cache: Path) -> None:
    soup = ensembles.soup([load_run(folder) for folder in folders])
    members = [run.folder for run in soup.members]
    assert len(members) > 1, "else nothing is averaged"
    for split, expected in by_mean_weights(members, images_of(cache)).items():
        np.testing.assert_allclose(soup.probabilities[split], expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("metric", ["accuracy", record.BALANCED])
def test_a_soup_leaves_out_what_lowers_the_primary_metric_on_validation(
    folders: list[Path], cache: Path, tmp_path: Path, metric: str
) -> None:
    best, other = folders[0], tmp_path / "other"
    shutil.copytree(best, other)
    content = torch.load(other / record.BEST, weights_only=True)
    for name in ("weight", "bias"):
        content["state_dict"][f"network.fc.{name}"] *= -3  # so that the mean turns all logits round
    torch.save(content, other / record.BEST)
    alone, both = (by_mean_weights(members, images_of(cache))["val"].argmax(1) for members in ([best], [best, other]))
    # Labels by which the best alone is right more often, and both together in as many classes: the alone's commonest
    # class where it says so, of the others fewer what both say, and what nobody says for the rest.
    common = np.bincount(alone).argmax()
    of_alone = np.flatnonzero(alone == common)[:7]
    rest = np.setdiff1d(np.arange(len(alone)), of_alone)
    of_both, of_nobody = rest[: len(of_alone) - 1], rest[len(of_alone) - 1 :]
    labels = np.full(len(alone), common)
    labels[of_both] = both[of_both]
    for image in of_nobody:
        labels[image] = np.setdiff1d(np.arange(6), [common, alone[image], both[image], *both[of_both]])[0]
    assert accuracy_score(labels, alone) > accuracy_score(labels, both)
    assert balanced_accuracy_score(labels, alone) <= balanced_accuracy_score(labels, both)
    runs = []
    for run in map(load_run, (best, other)):
        val = replace(run.predictions["val"], labels=labels)
        summary = replace(run.summary, primary_metric=metric)
        runs.append(replace(run, predictions=run.predictions | {"val": val}, summary=summary))
    members = [run.folder for run in ensembles.soup(runs).members]
    assert members == ([best] if metric == "accuracy" else [best, other])


def test_a_soup_takes_runs_of_one_primary_metric(folders: list[Path]) -> None:
    runs = [load_run(folder) for folder in folders]
    balanced = replace(runs[1], summary=replace(runs[1].summary, primary_metric=record.BALANCED))
    with pytest.raises(UserError, match=r"^combine=soup needs runs with the same primary_metric: "):
        ensembles.soup([runs[0], balanced])


def test_a_vote_has_no_loss(folders: list[Path]) -> None:
    *_, together = ensembles.evaluate_runs(folders, "vote").rows
    assert together.test_loss is None
    assert together.test_ece is None
    assert 0 <= together.test_accuracy <= 1


def test_other_tta_equals_that_of_a_run_configured_with_it(run: Run, folders: list[Path], tmp_path: Path) -> None:
    weights = folders[0].parent / "weights.pth"
    run(*FEW, f"model.weights={weights}", "optim.lr=0.005", "recipe.views=flip", folder=tmp_path / "flip")
    (again,), (asked,) = (
        ensembles.evaluate_runs([folder], "mean", views).rows
        for folder, views in ((folders[0], "flip"), (tmp_path / "flip", None))
    )
    assert again.test_loss == pytest.approx(asked.test_loss, rel=1e-6)
    assert again.test_loss != ensembles.evaluate_runs([folders[0]], "mean").rows[0].test_loss
    (once,) = ensembles.evaluate_runs([tmp_path / "flip"], "mean", 1).rows
    assert once.test_loss == pytest.approx(ensembles.evaluate_runs([folders[0]], "mean").rows[0].test_loss, rel=1e-6)


def test_nothing_is_written_or_downloaded_to_a_folder_that_a_received_record_names(
    folders: list[Path], tmp_path: Path, cache: Path
) -> None:
    received, theirs = shutil.copytree(folders[0], tmp_path / "run"), tmp_path / "theirs"
    config = yaml.safe_load((received / record.CONFIG).read_text())
    config["data"] |= {"cache_dir": str(theirs)}
    (received / record.CONFIG).write_text(yaml.safe_dump(config))
    (again,) = ensembles.evaluate_runs([received], "mean", 1, cache_dir=cache).rows
    (once,) = ensembles.evaluate_runs([folders[0]], "mean").rows
    assert again.test_loss == pytest.approx(once.test_loss, rel=1e-5)
    config["data"] |= {"source": "intel", "root": str(theirs)}
    (received / record.CONFIG).write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"theirs does not hold the images that .*run was trained on: restore them$"):
        ensembles.evaluate_runs([received], "mean", 1, cache_dir=cache)
    assert not theirs.exists()


def test_a_small_network_from_a_file_predicts_again_as_it_did(run: Run, tmp_path: Path) -> None:
    torch.save(build("resnet9_x0_5", 6, weights=None, image_size=32).state_dict(), tmp_path / "weights.pth")
    run(*FEW[2:], "model=resnet9_x0_5", f"model.weights={tmp_path / 'weights.pth'}", folder=tmp_path / "run")
    (again,), (once,) = (ensembles.evaluate_runs([tmp_path / "run"], "mean", views).rows for views in (1, None))
    assert again.test_loss == pytest.approx(once.test_loss, rel=1e-6)


@pytest.fixture(scope="module")
def googlenets(run_in: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of a network that transforms its input with pretrained weights but not with random ones."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("googlenets")
    torch.save(models.googlenet(num_classes=6, init_weights=False).state_dict(), folder / "weights.pth")
    for name, weights in (("pretrained", folder / "weights.pth"), ("random", "null")):
        few = ("epochs=1", "recipe=plain", "data.image_size=32", "data.batch_size=54")
        run_in(folder / name, "model=torchvision", "model.name=googlenet", f"model.weights={weights}", *few)
    return {name: folder / name for name in ("pretrained", "random")}


@pytest.mark.parametrize("name", ["pretrained", "random"])
@pytest.mark.parametrize("is_old", [False, True])
def test_a_googlenet_predicts_again_as_it_did(googlenets: dict[str, Path], name: str, is_old: bool) -> None:
    run = load_run(googlenets[name])
    assert run.summary.transform_input is (name == "pretrained")
    if is_old:
        run = replace(run, summary=replace(run.summary, transform_input=None))
    again = ensembles.predict_again(run, 1)
    for split, probabilities in run.probabilities.items():
        np.testing.assert_allclose(again.probabilities[split], probabilities, atol=1e-6)


@pytest.mark.parametrize("name", ["pretrained", "random"])
def test_the_weights_of_a_googlenet_say_how_it_took_its_input(
    googlenets: dict[str, Path], tmp_path: Path, name: str
) -> None:
    def transforms(path: Path) -> bool:
        network = build("googlenet", 6, weights=resolve_weights("googlenet", str(path)), image_size=32)
        assert isinstance(network, models.GoogLeNet)
        return network.transform_input

    best = googlenets[name] / record.BEST
    assert transforms(best) is (name == "pretrained")
    content = torch.load(best, weights_only=True)
    del content["transform_input"]  # as checkpoints were
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    torch.save(content, tmp_path / "run" / record.BEST)
    assert transforms(tmp_path / "run" / record.BEST) is True  # as torchvision's
    (tmp_path / "run" / record.SUMMARY).write_bytes((googlenets[name] / record.SUMMARY).read_bytes())
    assert transforms(tmp_path / "run" / record.BEST) is (name == "pretrained")


def test_images_that_have_changed_are_not_predicted_again(folders: list[Path]) -> None:
    run = load_run(folders[0])
    other = replace(run, summary=replace(run.summary, data_fingerprint="other"))
    for again in (lambda: ensembles.predict_again(other, 1), lambda: ensembles.soup([other])):
        with pytest.raises(UserError, match=r"^the images have changed since .*run0 was trained: restore them"):
            again()


def test_runs_of_other_training_images_are_not_combined(folders: list[Path]) -> None:
    one = load_run(folders[0])
    other = replace(one, summary=replace(one.summary, data_fingerprint="other"))
    with pytest.raises(UserError, match=r"differ in their classes or training images: combine runs of one study$"):
        ensembles.check_same_images([one, other])


@pytest.mark.parametrize("begun", [{"weights_digest": "0" * 64}, {"weights_digest": None, "weights": None}])
def test_runs_that_started_from_other_weights_make_no_soup(folders: list[Path], begun: dict[str, Any]) -> None:
    one = load_run(folders[0])
    other = replace(one, summary=replace(one.summary, **begun))
    with pytest.raises(UserError, match=r"^combine=soup needs runs that started from the same pretrained weights"):
        ensembles.soup([one, other])


def test_the_names_of_weights_are_compared_where_a_record_has_no_digest(folders: list[Path]) -> None:
    one = load_run(folders[0])
    old = replace(one, summary=replace(one.summary, weights_digest=None))
    assert len(ensembles.soup([one, old]).members) == 2
    with pytest.raises(UserError, match=r"^combine=soup needs runs that started from the same pretrained weights"):
        ensembles.soup([one, replace(old, summary=replace(old.summary, weights="other.pth"))])


def test_a_record_keeps_the_digest_of_the_weights_that_a_run_began_from(folders: list[Path]) -> None:
    expected = hashlib.sha256((folders[0].parent / "weights.pth").read_bytes()).hexdigest()
    assert load_run(folders[0]).summary.weights_digest == expected


def test_the_weights_of_a_soup_can_be_trained_on_and_predict_as_it_did(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "soup.pth"
    evaluation = ensembles.evaluate_runs(folders, "soup", output_weights=path)
    members = [Path(folder) for folder in evaluation.members]
    states = [torch.load(folder / record.BEST, weights_only=True)["state_dict"] for folder in members]
    soup = torch.load(path, weights_only=True)["state_dict"]
    ours = build(SMALLEST, 6, weights=resolve_weights(SMALLEST, str(path)), image_size=32).state_dict()
    for name, tensor in models.get_model(SMALLEST, num_classes=6).state_dict().items():
        average = torch.stack([state[f"network.{name}"] for state in states]).double().mean(0).to(tensor.dtype)
        assert torch.equal(soup[name], average)
        assert torch.equal(ours[name], average)


def test_the_soup_of_googlenets_says_how_it_took_its_input(googlenets: dict[str, Path]) -> None:
    runs = [load_run(googlenets["pretrained"])] * 2
    assert ensembles.soup(runs).kept_beside == {"transform_input": True}


def test_what_cannot_be_combined_is_named(run: Run, folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no folder .*/none: give the folder of a finished run$"):
        ensembles.evaluate_runs([folders[0], tmp_path / "none"], "mean")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=r"/empty holds no run \(no summary\.json\): give the folder of a finished run$"
    ):
        ensembles.evaluate_runs([folders[0], tmp_path / "empty"], "mean")
    with pytest.raises(UserError, match=r"^.* holds several runs: name them as run=\[.*/RUN1,.*/RUN2,\.\.\.\]$"):
        ensembles.evaluate_runs([folders[0].parent], "mean")
    run("epochs=1", "data.split_seed=7", folder=tmp_path / "cut")
    with pytest.raises(UserError, match=r"have different val images: combine runs of one study$"):
        ensembles.evaluate_runs([folders[0], tmp_path / "cut"], "mean")
    run("model=mobilenet_v3_small", "epochs=1", folder=tmp_path / "small")
    with pytest.raises(UserError, match=r"^combine=soup needs runs of one architecture"):
        ensembles.evaluate_runs([folders[0], tmp_path / "small"], "soup")


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_best_epoch_that_cannot_be_read_is_named(folders: list[Path], tmp_path: Path, content: bytes | None) -> None:
    copy = tmp_path / "run"
    shutil.copytree(folders[0], copy)
    (copy / record.BEST).unlink()
    if content is not None:
        (copy / record.BEST).write_bytes(content)
    for way, views in (("mean", 1), ("soup", None)):
        with pytest.raises(UserError, match=r"^.*/best\.ckpt is missing or (damaged|corrupt) \(\w+\): remove .*/run "):
            ensembles.evaluate_runs([folders[0], copy], way, views)
