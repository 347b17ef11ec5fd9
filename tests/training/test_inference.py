import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from torch import nn
from torchvision.transforms.v2 import functional

from intel_scenes.data.batches import Batch, View, views
from intel_scenes.predictions import Probabilities, at_temperature
from intel_scenes.training.inference import fitted_temperature, probabilities, scores

VIEW = View(4, 4, "bilinear", mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.5))
CPU = torch.device("cpu")


def stored(*sizes: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(256, (size, 3, 4, 4), generator=generator, dtype=torch.uint8),
            torch.zeros(size, dtype=torch.int64),
            np.arange(size),
        )
        for size in sizes
    ]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 3))


def drawn(num_images: int, num_classes: int) -> tuple[Probabilities, np.ndarray]:
    generator = np.random.default_rng(0)
    found = generator.dirichlet(np.ones(num_classes), num_images)
    return found, generator.integers(num_classes, size=num_images)


def test_probabilities_are_the_softmax_of_the_logits_of_normalized_images() -> None:
    layers, batches = network(), stored(3, 1, 2)
    found = probabilities(layers, batches, partial(views, view=VIEW, kind=1), device=CPU, precision="32-true")
    linear = layers[2]
    weight, bias = linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()
    pixels = np.concatenate([images.numpy() for images, _, _ in batches]) / 255
    seen = (pixels - np.reshape(VIEW.mean, (3, 1, 1))) / np.reshape(VIEW.std, (3, 1, 1))
    powers = np.exp(seen.reshape(6, 48) @ weight.T + bias)
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_probabilities_are_float64_and_their_rows_sum_to_one(precision: str) -> None:
    found = probabilities(network(), stored(3, 1), partial(views, view=VIEW, kind=1), device=CPU, precision=precision)
    assert (found.dtype, found.shape) == (np.float64, (4, 3))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-14)


def test_mixed_precision_rounds_logits_to_bfloat16() -> None:
    batches = stored(4)
    exact = probabilities(network(), batches, partial(views, view=VIEW, kind=1), device=CPU, precision="32-true")
    mixed = probabilities(network(), batches, partial(views, view=VIEW, kind=1), device=CPU, precision="bf16-mixed")
    assert not np.array_equal(exact, mixed)
    np.testing.assert_allclose(exact, mixed, atol=0.05)  # bfloat16 keeps 8 bits


def test_the_networks_mode_changes_nothing_and_nothing_is_learned() -> None:
    layers = network().train()
    before = [parameter.clone() for parameter in layers.parameters()]
    first = probabilities(layers, stored(3), partial(views, view=VIEW, kind=1), device=CPU, precision="32-true")
    second = probabilities(
        layers.train(), stored(3), partial(views, view=VIEW, kind=1), device=CPU, precision="32-true"
    )
    assert np.array_equal(first, second)
    assert all(map(torch.equal, before, layers.parameters()))


@pytest.mark.parametrize("num_classes", [2, 6])
def test_scores_are_scikit_learns(num_classes: int) -> None:
    found, labels = drawn(200, num_classes)
    predicted, result = found.argmax(1), scores(found, labels)
    matrix = confusion_matrix(labels, predicted)
    assert result.accuracy == accuracy_score(labels, predicted)
    assert result.loss == pytest.approx(log_loss(labels, found))
    assert result.confusion == matrix.tolist()
    assert result.accuracy_per_class == pytest.approx(matrix.diagonal() / matrix.sum(1))


def test_93_of_100_have_wilsons_interval() -> None:
    found = np.tile([0.9, 0.1], (100, 1))
    result = scores(found, np.array([0] * 93 + [1] * 7))
    # Wilson 1927: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.959964
    p, n, z2 = 0.93, 100, 3.841459
    middle, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    by_hand = ((middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n))
    assert by_hand == pytest.approx((0.8625, 0.9657), abs=1e-4)
    assert result.interval == pytest.approx(by_hand, abs=1e-6)


def test_the_interval_of_a_perfect_score_ends_at_one_and_begins_below() -> None:
    low, high = scores(np.tile([0.9, 0.1], (20, 1)), np.zeros(20, dtype=np.int64)).interval
    assert high == 1.0
    assert low == pytest.approx(20 / (20 + 3.841459))  # n / (n + z^2)


def test_the_calibration_error_is_the_weighted_gap_of_fifteen_bins() -> None:
    confidence = np.array([0.9, 0.9, 0.68, 0.72, 0.55])
    found = np.stack([confidence, 1 - confidence], 1)
    labels = np.array([0, 1, 0, 1, 1])
    # 0.867..0.933: |0.5 - 0.9| of 2; 0.667..0.733: |0.5 - 0.7| of 2; 0.533..0.6: |0 - 0.55| of 1
    assert scores(found, labels).ece == pytest.approx((2 * 0.4 + 2 * 0.2 + 0.55) / 5)


def test_a_class_without_images_has_no_accuracy_but_its_row_and_column() -> None:
    found = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    result = scores(found, np.array([0, 1]))
    assert result.accuracy_per_class == [1.0, 0.0, None]
    assert result.confusion == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_the_loss_of_a_certain_error_is_finite() -> None:
    result = scores(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    assert result.loss == pytest.approx(-math.log(np.finfo(float).tiny) / 2)


@pytest.mark.parametrize("kind", ["flip", "flip_crops"])
def test_probabilities_are_means_over_the_views_of_an_image(kind: str) -> None:
    view = View(14, 14, "bilinear", VIEW.mean, VIEW.std)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5, 3, 16, 16), generator=generator, dtype=torch.uint8)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 3)).eval()
    batches = [(images, torch.zeros(5, dtype=torch.int64), np.arange(5))]
    found = probabilities(layers, batches, partial(views, view=view, kind=kind), device=CPU, precision="32-true")
    if kind == "flip":
        small = functional.resize(images, [14, 14], antialias=True)
        seen = [small, functional.horizontal_flip(small)]
    else:
        seen = list(functional.ten_crop(images, [14, 14]))  # 16 is 8/7 of 14
    with torch.inference_mode():
        expected = [
            layers(functional.normalize(one / 255, list(VIEW.mean), list(VIEW.std))).double().softmax(1) for one in seen
        ]
    np.testing.assert_allclose(found, torch.stack(expected).mean(0).numpy(), atol=1e-5)


def test_a_temperature_is_found_again_and_changes_no_prediction() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in true])
    too_sure = true**3 / (true**3).sum(1, keepdims=True)  # logits times three
    found = fitted_temperature(too_sure, labels)
    assert found == pytest.approx(3, rel=0.05)
    calmed = at_temperature(too_sure, found)
    assert np.array_equal(calmed.argmax(1), too_sure.argmax(1))
    assert log_loss(labels, calmed) < log_loss(labels, too_sure)
    assert scores(calmed, labels).ece < 0.02 < scores(too_sure, labels).ece
    np.testing.assert_allclose(at_temperature(too_sure, 3.0), true, rtol=1e-9)


@pytest.mark.parametrize("sure", [0.6, 0.9, 0.9999])
@pytest.mark.parametrize("num_classes", [2, 6])
def test_where_all_of_30_images_are_right_31_of_32_are_expected_to_be(sure: float, num_classes: int) -> None:
    labels = np.arange(30) % num_classes
    predicted = np.full((30, num_classes), (1 - sure) / (num_classes - 1))
    predicted[np.arange(30), labels] = sure
    found = fitted_temperature(predicted, labels)
    # Platt 1999: (30 + 1) / (30 + 2); the odds against each other class are `before`, and to the power of 1 / T `after`
    before, after = (odds * (num_classes - 1) for odds in (sure / (1 - sure), 31))
    assert found == pytest.approx(math.log(before) / math.log(after), rel=1e-4)


def test_a_perfect_validation_split_makes_no_prediction_reckless() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(6, size=2_000)
    logits = generator.normal(size=(2_000, 6)) + 5 * np.eye(6)[labels]
    predicted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = predicted.argmax(1) == labels
    val = np.flatnonzero(right)[:30]
    test = np.setdiff1d(np.arange(2_000), val)
    found = fitted_temperature(predicted[val], labels[val])
    assert 0.5 < found < 2
    before, after = (log_loss(labels[test], at_temperature(predicted[test], t)) for t in (1, found))
    assert not right.all()
    assert after < before + 0.05


def test_what_keeps_a_temperature_from_its_bound_hardly_moves_that_of_many_images() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(6, size=3_000)
    logits = 2 * (generator.normal(size=(3_000, 6)) + 2 * np.eye(6)[labels])
    predicted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    plain = minimize_scalar(
        lambda t: log_loss(labels, predicted ** (1 / t) / (predicted ** (1 / t)).sum(1, keepdims=True)),
        bounds=(0.1, 10),
        method="bounded",
    ).x
    assert fitted_temperature(predicted, labels) == pytest.approx(plain, rel=0.005)
