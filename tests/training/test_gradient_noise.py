"""The gradient noise scale against gradients that numpy computes by hand."""

import csv
import itertools

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from intel_scenes import record
from intel_scenes.record import GradientNoise
from intel_scenes.training.build import build_data
from intel_scenes.training.gradient_noise import draw_batches, mean_squared_norms, noise_scale
from tests.small import DRAWN, SMALL, asked


def test_signal_and_noise_are_the_mean_and_the_covariance_of_the_gradients_of_single_images() -> None:
    gradients = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 1.0]])  # of three images, each with respect to two weights
    weights = torch.zeros(2, requires_grad=True)

    def loss_and_share(positions):
        return (torch.from_numpy(gradients[positions]).float() @ weights).mean(), torch.tensor(float(len(positions)))

    # All pairs of two images drawn with replacement, so that the means below are expectations.
    pairs = np.array(list(itertools.product(range(3), repeat=2)))[:, :, None]
    norms = mean_squared_norms(loss_and_share, [weights], pairs)
    estimate = noise_scale(*norms, small_batch=1, large_batch=2)
    mean, covariance = gradients.mean(0), np.cov(gradients, rowvar=False, ddof=0)
    assert estimate.signal == pytest.approx(mean @ mean)
    assert estimate.noise == pytest.approx(np.trace(covariance))
    assert estimate.scale == pytest.approx(np.trace(covariance) / (mean @ mean))
    assert weights.grad is None


@pytest.mark.parametrize(
    ("large_norm", "signal", "noise", "scale"),
    [(2.0, 1.0, 8.0, 8.0), (1.0, -1 / 3, 32 / 3, None), (1.25, 0.0, 10.0, None)],  # by hand
)
def test_a_signal_that_is_not_positive_has_no_scale(large_norm: float, signal: float, noise: float, scale) -> None:
    estimate = noise_scale(5.0, large_norm, small_batch=2, large_batch=8)
    assert (estimate.signal, estimate.noise) == pytest.approx((signal, noise))
    assert estimate.scale == scale


@pytest.mark.parametrize(
    ("num_images", "shape"),
    [(12_632, (3, 64, 16)), (1024, (3, 64, 16)), (108, (3, 6, 16)), (63, (3, 4, 15)), (7, (3, 7, 1)), (1, (3, 2, 1))],
)
def test_batches_are_at_most_the_training_set_and_small_ones_a_quarter_of_a_large_one(num_images, shape) -> None:
    drawn = draw_batches(1, 0, 3, num_images)
    assert drawn.shape == shape
    assert 0 <= drawn.min() <= drawn.max() < num_images
    np.testing.assert_array_equal(drawn, draw_batches(1, 0, 3, num_images))
    if num_images > 1:
        assert all((drawn != draw_batches(*other, 3, num_images)).any() for other in ((1, 1), (2, 0)))


class Stops(Callback):
    """Interrupts the training in its second epoch."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_the_norms_of_a_resumed_run_are_those_of_softmax_regression_with_its_last_weights(run, tmp_path, cache) -> None:
    before = build_data(asked(*DRAWN, *SMALL, f"data.cache_dir={cache}")).splits
    streets = [path for path in map(before.scenes.paths.__getitem__, before.train) if path.startswith("street/")]
    (tmp_path / "exclude.txt").write_text("\n".join(streets[4:]))  # so that class weights differ
    typed = ("recipe=linear_probe", "recipe.class_weight=1", "recipe.label_smoothing=0.1", "data.batch_size=32")
    typed += (
        f"data.exclude={tmp_path / 'exclude.txt'}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "keep_last=true",
        "epochs=2",
    )
    with pytest.raises(KeyboardInterrupt):
        run(*typed, "noise_scale=2", "lr_scale=10", callbacks=[Stops()])
    first = GradientNoise.read(tmp_path / "run").epochs
    run(*typed, "noise_scale=2", "lr_scale=10")

    splits = build_data(asked(*DRAWN, *SMALL, *typed)).splits
    (features,) = (tmp_path / "cache").glob("features-*/train.npy")
    inputs, labels = np.load(features)[splits.train].astype(float), splits.scenes.labels[splits.train]
    state = torch.load(tmp_path / "run" / record.LAST, weights_only=True)["state_dict"].values()
    bias, weight = sorted((tensor.double().numpy() for tensor in state if tensor.numel() > 1), key=np.ndim)
    shares = 1 / np.bincount(labels)
    assert len(set(shares)) > 1

    def squared_norm(positions):
        x, y = inputs[positions], labels[positions]
        exponentials = np.exp(x @ weight.T + bias)
        softmax, one_hot = exponentials / exponentials.sum(1, keepdims=True), np.eye(6)[y]
        # torch weighs each class of a smoothed target, and divides by the weights of the labels.
        targets = (0.9 * one_hot + 0.1 / 6) * shares
        errors = (softmax * targets.sum(1, keepdims=True) - targets) / shares[y].sum()
        return ((errors.T @ x) ** 2).sum() + (errors.sum(0) ** 2).sum()

    *others, row = GradientNoise.read(tmp_path / "run").epochs
    assert tuple(others) == first
    assert len(first) == 1
    drawn = draw_batches(1, 1, 2, len(labels))
    num_large, _, small_batch = drawn.shape
    assert (row.epoch, row.num_large, row.small_batch, row.large_batch) == (1, num_large, small_batch, drawn[0].size)
    small_norms = [squared_norm(small) for small in drawn.reshape(-1, small_batch)]
    assert row.small_norm == pytest.approx(np.mean(small_norms), rel=1e-4)
    assert row.large_norm == pytest.approx(np.mean([squared_norm(large.ravel()) for large in drawn]), rel=1e-4)


@pytest.mark.parametrize("recipe", [["recipe.ema_decay=0.9", "recipe.mixup=0.2"], ["recipe.trains_norms=false"]])
def test_the_training_is_the_same_with_and_without_the_measurement(run, tmp_path, recipe) -> None:
    typed = ("epochs=2", "data.batch_size=54", "recipe=plain", *recipe)
    run(*typed, folder=tmp_path / "without")
    run(*typed, "noise_scale=1", folder=tmp_path / "with")
    assert len(GradientNoise.read(tmp_path / "with").epochs) == 2
    assert not (tmp_path / "without" / record.GRADIENT_NOISE).exists()
    assert result(tmp_path / "with") == result(tmp_path / "without")


def result(folder):
    with (folder / record.HISTORY).open() as file:
        history = [{key: row[key] for key in row.keys() - {"images_per_second"}} for row in csv.DictReader(file)]
    state = torch.load(folder / record.BEST, weights_only=True)["state_dict"]
    tensors = {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return history, (folder / record.PREDICTIONS).read_bytes(), tensors
