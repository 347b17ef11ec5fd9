import numpy as np
import pytest
import scipy.stats
import torch

from intel_scenes.data.augment import uniform_draws
from intel_scenes.data.mixing import NUM_DRAWS, Mixing, mix

LABELS = torch.tensor([0, 2, 1, 2, 0])


def batch(num: int = 5, side: int = 12) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(num, 3, side, side)).astype(np.float32))


def drawn(num: int = 5) -> np.ndarray:
    return uniform_draws(seed=3, epoch=1, indices=np.arange(num), num_draws=NUM_DRAWS)


def test_mixup_is_the_weighted_mean_of_an_image_and_the_next_and_of_their_labels() -> None:
    images, draws = batch(), drawn()
    mixed, shares = mix(images, LABELS, draws, Mixing(mixup=0.4, cutmix=0), num_classes=3)
    own = scipy.stats.beta(0.4, 0.4).ppf(draws[:, 1])
    for place in range(5):
        other, weight = (place + 1) % 5, own[place]
        expected = weight * images[place].numpy() + (1 - weight) * images[other].numpy()
        np.testing.assert_allclose(mixed[place].numpy(), expected, atol=1e-6)
        labels = np.zeros(3)
        labels[LABELS[place]] += weight
        labels[LABELS[other]] += 1 - weight
        np.testing.assert_allclose(shares[place].numpy(), labels, atol=1e-6)


def test_cutmix_puts_a_box_of_the_next_image_into_each_and_shares_the_labels_by_its_area() -> None:
    images, draws = batch(num=60, side=12), drawn(60)
    labels = torch.arange(60) % 3
    mixed, shares = mix(images, labels, draws, Mixing(mixup=0, cutmix=1.0), num_classes=3)
    areas = []
    for place in range(60):
        own = (mixed[place] == images[place]).all(0).numpy()
        other = (mixed[place] == images[(place + 1) % 60]).all(0).numpy()
        assert (own ^ other).all(), "each pixel is of one of the two"
        rows, columns = np.flatnonzero(other.any(1)), np.flatnonzero(other.any(0))
        assert other.sum() == len(rows) * len(columns), "a box"
        assert shares[place, labels[place]].item() == pytest.approx(own.mean(), abs=1e-6)
        areas.append(other.mean())
    assert shares.sum(1).numpy() == pytest.approx(np.ones(60))
    # With alpha 1 the area is uniform before the edges cut it off.
    assert 0.2 < np.mean(areas) < 0.5
    assert min(areas) < 0.05


def test_with_mixup_and_cutmix_each_is_used_for_half_of_the_images() -> None:
    images, draws = batch(num=400, side=8), drawn(400)
    mixed, _ = mix(images, torch.arange(400) % 3, draws, Mixing(mixup=0.8, cutmix=0.8), num_classes=3)
    is_cut = ((mixed == images) | (mixed == images.roll(-1, 0))).all(1).flatten(1).all(1)
    assert 160 < is_cut.sum().item() < 240


def test_mixing_depends_only_on_an_images_draws_and_its_neighbour() -> None:
    images, draws = batch(), drawn()
    whole, _ = mix(images, LABELS, draws, Mixing(0.4, 0.4), num_classes=3)
    part, _ = mix(images[1:4], LABELS[1:4], draws[1:4], Mixing(0.4, 0.4), num_classes=3)
    assert torch.equal(whole[1:3], part[:2])


def test_a_negative_parameter_is_an_error() -> None:
    with pytest.raises(ValueError, match="mixup=-1"):
        Mixing(-1, 0)
    assert not Mixing(0, 0)
    assert Mixing(0, 0.1)
