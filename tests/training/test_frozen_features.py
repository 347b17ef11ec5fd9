import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional
from torchvision import models

from intel_scenes import record
from intel_scenes.data.batches import order
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import UserError
from intel_scenes.models.class_weights import class_weights
from intel_scenes.training.build import build_data
from intel_scenes.training.frozen_features import Head, add_backbone, fit_head
from tests.small import DRAWN, SMALL, SMALLEST, asked

Run = Callable[..., dict[str, Any]]
PROBE = (
    "recipe=linear_probe",
    "recipe.label_smoothing=0.0",
    *("model=torchvision", f"model.name={SMALLEST}", "model.weights=null"),
    "data.batch_size=16",
    "optim=sgd",
    "scheduler=constant",
    "epochs=3",
    "data.crop_fraction=1.0",
)
# One model for each way in which torchvision builds a head, including auxiliary heads and heads of several layers.
FAMILIES = {
    **{"resnet18": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32, "efficientnet_b0": 32, "convnext_tiny": 32},
    **{"vit_b_16": 32, "swin_t": 32, "densenet121": 32, "vgg11": 32, "googlenet": 32, "inception_v3": 75},
}


def random_weights(folder: Path, name: str = SMALLEST) -> tuple[str, nn.Module]:
    torch.manual_seed(7)
    network = models.get_model(name, num_classes=6)
    torch.save(network.state_dict(), folder / "weights.pth")
    return f"model.weights={folder / 'weights.pth'}", network


def images_of(cache: Path) -> SceneDataModule:
    return build_data(asked(*DRAWN, *SMALL, *PROBE, f"data.cache_dir={cache}"))


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / record.HISTORY).open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_on_the_features_equals_the_network(name: str) -> None:
    options = {"image_size": FAMILIES[name]} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}
    network = models.get_model(name, num_classes=6, **options).eval()
    head, seen = Head(network, name), []
    head.layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, FAMILIES[name], FAMILIES[name]))
        assert torch.equal(head(seen[0]), logits)
    assert set(head.state_dict()) == {f"{head.name}.weight", f"{head.name}.bias"} <= set(network.state_dict())


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"^recipe.trained=head needs .* squeezenet1_1 does not: choose another"):
        Head(models.squeezenet1_1(num_classes=6), "squeezenet1_1")


def test_a_probe_is_the_head_trained_on_the_frozen_network(run: Run, cache: Path, tmp_path: Path) -> None:
    weights, network = random_weights(tmp_path)
    summary = run(*PROBE, weights, "optim.lr=0.05", folder=tmp_path / "probe")
    data = images_of(cache)

    network.eval()  # reference: the whole network on every batch, its backbone in evaluation mode
    optimizer = torch.optim.SGD(network.fc.parameters(), 0.05, momentum=0.9)
    labels, rows = torch.from_numpy(data.splits.scenes.labels), history(tmp_path / "probe")

    def logits_of(chosen: np.ndarray) -> torch.Tensor:
        logits: torch.Tensor = network(data.pipeline.eval_view(data.images.batch(chosen).images))
        return logits

    for epoch in range(3):
        losses, shuffled = [], data.splits.train[order(1, epoch, len(data.splits.train))]
        for start in range(0, len(shuffled) // 16 * 16, 16):
            chosen = shuffled[start : start + 16]
            loss = functional.cross_entropy(logits_of(chosen), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert rows[epoch]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        with torch.inference_mode():
            val_loss = functional.cross_entropy(logits_of(data.splits.val), labels[data.splits.val]).item()
        assert rows[epoch]["val_loss"] == pytest.approx(val_loss, rel=1e-4)
    assert summary.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert len({row["train_loss"] for row in rows}) == 3, "else nothing was trained"


def test_the_record_of_a_probe_holds_the_whole_network(run: Run, cache: Path, tmp_path: Path) -> None:
    weights, initial = random_weights(tmp_path)
    run(*PROBE, weights, "optim.lr=0.05", folder=tmp_path / "probe")
    saved = torch.load(tmp_path / "probe" / record.BEST, weights_only=True)["state_dict"]
    state = {name.removeprefix("network."): tensor for name, tensor in saved.items()}
    for name, tensor in initial.state_dict().items():
        assert torch.equal(state[name], tensor) == (not name.startswith("fc.")), name
    network = models.get_model(SMALLEST, num_classes=6).eval()
    network.load_state_dict(state)
    data = images_of(cache)
    with (tmp_path / "probe" / record.PREDICTIONS).open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    stored = data.test_images.batch(data.splits.test).images
    with torch.inference_mode():
        expected = network(data.pipeline.eval_view(stored)).softmax(1).numpy()
    probabilities = np.array([[float(row[name]) for name in data.splits.classes] for row in rows])
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)


def test_features_are_computed_once_for_all_runs_of_a_backbone_at_a_size(run: Run, tmp_path: Path) -> None:
    weights, _ = random_weights(tmp_path)
    place = tmp_path / "cache"

    def probe(name: str, *overrides: str) -> set[str]:
        run(*PROBE, weights, f"data.cache_dir={place}", *overrides, folder=tmp_path / name)
        return {path.name for path in place.glob("features-*") if path.is_dir()}

    first = probe("first")
    assert len(first) == 1
    before = {path: path.stat().st_mtime_ns for path in place.glob("features-*/*.npy")}
    assert probe("other", "optim=adamw", "seed=2", "data.batch_size=8", "scheduler=cosine") == first
    assert {path: path.stat().st_mtime_ns for path in place.glob("features-*/*.npy")} == before
    assert len(probe("larger", "data.image_size=24")) == 2
    assert len(probe("rounded", "trainer.precision=bf16")) == 3
    torch.manual_seed(8)
    torch.save(models.get_model(SMALLEST, num_classes=6).state_dict(), tmp_path / "weights.pth")
    assert len(probe("weights")) == 4
    assert len(probe("random", "model.weights=null")) == 5
    assert len(probe("random again", "model.weights=null", "seed=2")) == 6


def test_a_probe_is_complete_like_any_run(run: Run, tmp_path: Path) -> None:
    weights, _ = random_weights(tmp_path)
    summary = run(*PROBE, weights, folder=tmp_path / "probe")
    assert summary.status == "completed"
    assert summary.recipe_resolved["recipe"]["trained"] == "head"
    unknown = {key for key, value in vars(summary).items() if value is None}
    no_run_has = {"error", "traceback", "git_commit", "git_dirty"}  # of a completed run, or from a wheel
    not_asked = {"study", "model", "optim", "scheduler", "recipe", "budget_minutes", "budget_digest", "compile_seconds"}
    not_of_these = {"transform_input", "test_fraction", "model_source", "features_seconds"}  # the features were cached
    assert unknown <= no_run_has | not_asked | not_of_these
    assert run(*PROBE, weights, folder=tmp_path / "probe") == summary
    assert json.loads((tmp_path / "probe" / record.SUMMARY).read_text())["num_train"] == 108


def test_a_head_is_fitted_as_logistic_regression_does(run: Run, cache: Path) -> None:
    data, generator = images_of(cache), np.random.default_rng(0)
    values = generator.normal(size=(120, 10)).astype(np.float32) + np.eye(6, 10)[data.splits.scenes.labels].astype(
        np.float32
    )
    features = data.with_features(values, values[:30])
    layer = nn.Linear(10, 6)
    fit_head(layer, features.images, features.splits.train, label_smoothing=0.0)
    chosen = data.splits.train
    decay = 0.01  # of the mean loss; scikit-learn weighs the sum of the losses against half of the squares
    reference = LogisticRegression(C=1 / (decay * len(chosen)), tol=1e-8, max_iter=1000)
    reference.fit(values[chosen], data.splits.scenes.labels[chosen])
    with torch.inference_mode():
        probabilities = layer(torch.from_numpy(values)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, reference.predict_proba(values), atol=2e-3)


def test_a_head_that_is_fitted_first_starts_as_scikit_learns_logistic_regression_of_the_frozen_features(
    run: Run, cache: Path, tmp_path: Path
) -> None:
    weights, network = random_weights(tmp_path, "resnet18")
    base = ("recipe=plain", "model=resnet18", weights, "data.crop_fraction=1.0", "epochs=1", "optim.lr=1e-9")
    plain = run(*base, "augment=none", folder=tmp_path / "plain")
    first = run(*base, "augment=none", "recipe.head_first=true", "recipe.trains_norms=false", folder=tmp_path / "first")
    assert first.init_digest == plain.init_digest, "what is paired is what came before"
    state, initial = (
        torch.load(path, weights_only=True) for path in (tmp_path / "first" / record.BEST, tmp_path / "weights.pth")
    )
    norms = [name for name in initial if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(norms) == 60
    assert all(torch.equal(state["state_dict"][f"network.{name}"], initial[name]) for name in norms)

    data = images_of(cache)
    network.eval().fc = nn.Identity()
    with torch.inference_mode():
        features = network(data.pipeline.eval_view(data.images.batch(np.arange(120)).images)).numpy()
    chosen, labels = data.splits.train, data.splits.scenes.labels
    reference = LogisticRegression(C=1 / (0.01 * len(chosen)), tol=1e-8, max_iter=10_000)
    reference.fit(features[chosen], labels[chosen])
    found = record.Predictions.read(tmp_path / "first", "val").probabilities
    np.testing.assert_allclose(found, reference.predict_proba(features[data.splits.val]), atol=5e-3)


def test_random_weights_have_no_head_first_and_no_layer_wise_decay(run: Run, tmp_path: Path) -> None:
    default = run(folder=tmp_path / "default")  # the recipe has layer-wise decay
    plain = run("recipe.first_lr_scale=1.0", folder=tmp_path / "plain")
    assert default.test_loss == plain.test_loss
    assert default.recipe_resolved == plain.recipe_resolved
    assert default.recipe_resolved["recipe"]["first_lr_scale"] == 1.0
    for option in ("recipe.head_first=true", "recipe.first_lr_scale=0.1"):
        with pytest.raises(UserError, match=rf"^{option.split('=')[0]} has no effect with random weights"):
            run(option, folder=tmp_path / "typed")
    assert not (tmp_path / "typed").exists()


def test_the_head_is_fitted_first_if_the_backbone_is_pretrained() -> None:
    assert asked("recipe.head_first=true").effective_recipe.head_first
    assert not asked("recipe.head_first=true", "model.weights=null").effective_recipe.head_first
    assert not asked("recipe.head_first=false").effective_recipe.head_first


def test_a_head_that_is_not_linear_is_not_fitted_first(run, tmp_path) -> None:
    torch.save(models.squeezenet1_1(num_classes=6).state_dict(), tmp_path / "weights.pth")
    model = ("model=torchvision", "model.name=squeezenet1_1", f"model.weights={tmp_path / 'weights.pth'}")
    with pytest.raises(UserError, match=r"^recipe\.head_first=true has no effect on squeezenet1_1, whose head is not"):
        run(*model, "data.image_size=32", "recipe.head_first=true")


def test_the_checkpoint_of_a_probe_holds_transform_input(tmp_path: Path) -> None:
    network = models.googlenet(num_classes=6, init_weights=False, transform_input=True)
    (tmp_path / record.BEST).parent.mkdir()
    torch.save({"state_dict": {}}, tmp_path / record.BEST)
    add_backbone(tmp_path, network)
    checkpoint = torch.load(tmp_path / record.BEST, weights_only=True)
    assert checkpoint["transform_input"] is True
    assert len(checkpoint["state_dict"]) == len(network.state_dict())


def test_a_head_is_fitted_with_scikit_learns_balanced_weights(run: Run, cache: Path) -> None:
    data, generator = images_of(cache), np.random.default_rng(0)
    labels = data.splits.scenes.labels
    chosen = np.concatenate([data.splits.train[labels[data.splits.train] == 0], data.splits.train[::3]])  # 0 is common
    values = generator.normal(size=(120, 10)).astype(np.float32) + np.eye(6, 10)[labels].astype(np.float32)
    layer = nn.Linear(10, 6)
    features = data.with_features(values, values[:30])
    fit_head(layer, features.images, chosen, 0.0, class_weights(labels[chosen], 6, 1))
    reference = LogisticRegression(C=1 / (0.01 * len(chosen)), tol=1e-8, max_iter=1000, class_weight="balanced")
    reference.fit(values[chosen], labels[chosen])
    with torch.inference_mode():
        probabilities = layer(torch.from_numpy(values)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, reference.predict_proba(values), atol=2e-3)


def test_shares_of_the_training_images_take_their_features_from_one_cache(run: Run, tmp_path: Path) -> None:
    weights, _ = random_weights(tmp_path)
    share = ("data.train_fraction=0.5", "equal_steps=true")
    whole = run(*PROBE, weights, folder=tmp_path / "whole")
    part = run(*PROBE, weights, *share, folder=tmp_path / "part")
    assert part.features_seconds is None, "else they were computed again"
    assert (whole.num_train, part.num_train) == (108, 54)
    assert (whole.num_val, whole.num_test) == (part.num_val, part.num_test)
    assert (whole.data_fingerprint, whole.split_digest) == (part.data_fingerprint, part.split_digest)
    assert whole.order_digest != part.order_digest
    assert (whole.train_fraction, part.train_fraction, part.subset_seed) == (1, 0.5, 1)
    # Three epochs of six batches of 16 are 18 steps; three batches fit into the half, so that it takes six epochs.
    assert [rows[-1]["step"] for rows in map(history, (tmp_path / "whole", tmp_path / "part"))] == [18, 18]
    assert part.epochs == 6
    assert run(*PROBE, weights, *share, folder=tmp_path / "part") == part, "it is complete"
