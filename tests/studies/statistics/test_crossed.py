import numpy as np
import pytest
import statsmodels.api as sm

from intel_scenes.studies.statistics.crossed import Runs


def tables(seed: int, num_images: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of two arms with three seeds on the same images."""
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.4, 1, num_images)
    return tuple((rng.random((3, num_images)) < chances).astype(np.float32) for _ in range(2))


def squares(table: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares of seeds, images and residuals."""
    num_seeds, num_images = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = table - rows[:, None] - columns + mean
    return (
        num_images * rows.var(ddof=1),
        num_seeds * columns.var(ddof=1),
        (rest**2).sum() / ((num_seeds - 1) * (num_images - 1)),
    )


def test_paired_differences_are_those_of_the_table_of_differences():
    one, other = (table.astype(np.float64) for table in tables(1))
    estimate = Runs.of(np.concatenate([other, one])).paired_difference([3, 5, 4], [0, 2, 1])
    seed, image, rest = squares(one - other)
    assert estimate.value == pytest.approx((one - other).mean())
    assert (estimate.sides[0].seed, 3 * estimate.images, estimate.sides[0].rest) == pytest.approx((seed, image, rest))
    assert estimate.is_paired
    assert estimate.num_seeds == (3, 3)


def test_unpaired_differences_have_mean_squares_of_each_side_and_the_image_variance_of_both():
    one, other = (table.astype(np.float64) for table in tables(2))
    estimate = Runs.of(np.concatenate([one, other])).unpaired_difference([0, 1], [3, 4, 5])
    for side, table in zip(estimate.sides, (one[:2], other), strict=True):
        seed, _, rest = squares(table)
        assert (side.seed, side.rest, side.num_seeds) == pytest.approx((seed, rest, len(table)))
    assert estimate.images == pytest.approx((one[:2].mean(axis=0) - other.mean(axis=0)).var(ddof=1))
    assert not estimate.is_paired


def test_a_run_without_a_partner_is_left_out_where_most_have_one():
    runs = Runs.of(np.concatenate([*tables(3), *tables(6)]))
    one, other = [0, 1, 2, 3], [6, 7, 8]
    common = [(1, 6), (2, 7), (3, 8)]
    assert runs.difference(one, other, common) == runs.paired_difference([1, 2, 3], other)
    assert runs.difference(one, other, common[:2]) == runs.unpaired_difference(one, other)
    assert runs.difference([1, 2], [6, 7], common[:2]) == runs.paired_difference([1, 2], [6, 7])
    assert runs.difference([0], other, []) is None


def test_duplicate_images_count_once():
    table = np.concatenate(tables(4))
    single = Runs.of(table).mean([0, 1, 2])
    tenfold = Runs.of(np.repeat(table, 10, axis=1), groups=np.repeat(np.arange(40), 10)).mean([0, 1, 2])
    assert (tenfold.value, tenfold.variance, tenfold.num_images) == pytest.approx((single.value, single.variance, 40))


def test_unequal_clusters_have_the_cluster_robust_variance_of_statsmodels():
    table = np.repeat(tables(5, 60)[0][:1], 2, axis=0)  # one run twice: only images vary
    groups = np.random.default_rng(5).integers(0, 25, 60)
    fit = sm.OLS(table[0], np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    estimate = Runs.of(table, groups=groups).mean([0, 1])
    assert estimate.value == pytest.approx(fit.params[0])
    assert estimate.images / estimate.num_images == pytest.approx(fit.bse[0] ** 2)


LABELS = np.repeat([0, 1, 2], [25, 10, 5])


def test_a_stratified_mean_weighs_classes_equally_and_adds_their_variances():
    one, _ = tables(7)
    estimate = Runs.of(one, strata=LABELS).mean([0, 1, 2])
    by_class = [one[:, label == LABELS].astype(np.float64) for label in range(3)]
    assert estimate.value == pytest.approx(np.mean([table.mean() for table in by_class]))
    # Cochran's variance of a stratified mean, from the image means over seeds; the seed variance from the seed means
    variance = sum(table.mean(axis=0).var(ddof=1) / table.shape[1] for table in by_class) / 9
    assert estimate.images / estimate.num_images == pytest.approx(variance)
    seeds = np.mean([table.mean(axis=1) for table in by_class], axis=0)
    assert estimate.sides[0].seed / estimate.num_images == pytest.approx(seeds.var(ddof=1))


def test_one_stratum_changes_nothing():
    one, other = tables(8)
    plain, alone = (Runs.of(np.concatenate([one, other]), strata=strata) for strata in (None, np.zeros(40, int)))
    first, second = (runs.paired_difference([0, 1, 2], [3, 4, 5]) for runs in (plain, alone))
    assert (second.value, second.variance) == pytest.approx((first.value, first.variance))
    assert second.degrees_of_freedom == pytest.approx(first.degrees_of_freedom)


def test_rare_classes_limit_the_degrees_of_freedom_over_images():
    """Computed by hand: Satterthwaite's formula for 3 class means with variances proportional to 1 / n."""
    terms = [(1 / 25, 24), (1 / 10, 9), (1 / 5, 4)]
    expected = sum(term for term, _ in terms) ** 2 / sum(term**2 / degrees for term, degrees in terms)
    assert Runs.of(tables(9)[0], strata=LABELS).degrees_of_images == pytest.approx(expected)


def test_without_differences_the_rarest_class_determines_the_bound():
    """By hand: no difference in n images of one of C classes bounds their rate by 3 / n, and by 3 / (n C) in all."""
    same = np.tile(tables(10)[0][:1], (4, 1))
    low, high = Runs.of(same, strata=LABELS).paired_difference([0, 1], [2, 3]).interval()
    assert (low, high) == pytest.approx((-3 / 5 / 3, 3 / 5 / 3), rel=0.5)
    assert high > 3 / 5 / 3
