import numpy as np
import pytest
import statsmodels.api as sm

from intel_scenes.studies.statistics.crossed import Runs


def tables(seed: int, num_images: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Of two arms of three seeds, on the same images."""
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.4, 1, num_images)
    return tuple((rng.random((3, num_images)) < chances).astype(np.float32) for _ in range(2))


def squares(table: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of seeds, images and the rest, from residuals."""
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
    found = Runs.of(np.concatenate([other, one])).paired_difference([3, 5, 4], [0, 2, 1])
    seed, image, rest = squares(one - other)
    assert found.value == pytest.approx((one - other).mean())
    assert (found.sides[0].seed, 3 * found.images, found.sides[0].rest) == pytest.approx((seed, image, rest))
    assert found.is_paired
    assert found.num_seeds == (3, 3)


def test_unpaired_differences_have_the_squares_of_each_side_and_the_images_of_both():
    one, other = (table.astype(np.float64) for table in tables(2))
    found = Runs.of(np.concatenate([one, other])).unpaired_difference([0, 1], [3, 4, 5])
    for side, table in zip(found.sides, (one[:2], other), strict=True):
        seed, _, rest = squares(table)
        assert (side.seed, side.rest, side.num_seeds) == pytest.approx((seed, rest, len(table)))
    assert found.images == pytest.approx((one[:2].mean(axis=0) - other.mean(axis=0)).var(ddof=1))
    assert not found.is_paired


def test_a_run_without_a_partner_is_left_out_where_most_have_one():
    runs = Runs.of(np.concatenate([*tables(3), *tables(6)]))
    one, other = [0, 1, 2, 3], [6, 7, 8]
    common = [(1, 6), (2, 7), (3, 8)]
    assert runs.difference(one, other, common) == runs.paired_difference([1, 2, 3], other)
    assert runs.difference(one, other, common[:2]) == runs.unpaired_difference(one, other)
    assert runs.difference([1, 2], [6, 7], common[:2]) == runs.paired_difference([1, 2], [6, 7])
    assert runs.difference([0], other, []) is None


def test_copies_of_an_image_count_once():
    table = np.concatenate(tables(4))
    single = Runs.of(table).mean([0, 1, 2])
    tenfold = Runs.of(np.repeat(table, 10, axis=1), groups=np.repeat(np.arange(40), 10)).mean([0, 1, 2])
    assert (tenfold.value, tenfold.variance, tenfold.num_images) == pytest.approx((single.value, single.variance, 40))


def test_groups_of_unequal_size_have_the_variance_of_clusters_in_statsmodels():
    table = np.repeat(tables(5, 60)[0][:1], 2, axis=0)  # one run twice: images alone vary
    groups = np.random.default_rng(5).integers(0, 25, 60)
    fit = sm.OLS(table[0], np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    found = Runs.of(table, groups=groups).mean([0, 1])
    assert found.value == pytest.approx(fit.params[0])
    assert found.images / found.num_images == pytest.approx(fit.bse[0] ** 2)


LABELS = np.repeat([0, 1, 2], [25, 10, 5])


def test_a_stratified_mean_counts_classes_alike_and_has_the_variance_of_each():
    one, _ = tables(7)
    found = Runs.of(one, strata=LABELS).mean([0, 1, 2])
    by_class = [one[:, label == LABELS].astype(np.float64) for label in range(3)]
    assert found.value == pytest.approx(np.mean([table.mean() for table in by_class]))
    # Cochran's variance of a stratified mean, of the images' means over seeds; and the seeds', of their own means
    variance = sum(table.mean(axis=0).var(ddof=1) / table.shape[1] for table in by_class) / 9
    assert found.images / found.num_images == pytest.approx(variance)
    seeds = np.mean([table.mean(axis=1) for table in by_class], axis=0)
    assert found.sides[0].seed / found.num_images == pytest.approx(seeds.var(ddof=1))


def test_strata_of_one_class_are_none():
    one, other = tables(8)
    plain, alone = (Runs.of(np.concatenate([one, other]), strata=strata) for strata in (None, np.zeros(40, int)))
    first, second = (runs.paired_difference([0, 1, 2], [3, 4, 5]) for runs in (plain, alone))
    assert (second.value, second.variance) == pytest.approx((first.value, first.variance))
    assert second.degrees_of_freedom == pytest.approx(first.degrees_of_freedom)


def test_degrees_of_freedom_of_the_images_are_those_of_the_rare_classes():
    """By hand: Satterthwaite's for 3 class means with variances in proportion to 1 / n."""
    terms = [(1 / 25, 24), (1 / 10, 9), (1 / 5, 4)]
    expected = sum(term for term, _ in terms) ** 2 / sum(term**2 / degrees for term, degrees in terms)
    assert Runs.of(tables(9)[0], strata=LABELS).degrees_of_images == pytest.approx(expected)


def test_where_nothing_differs_the_rarest_class_bounds_what_may():
    """By hand: where none of n images of one of C classes differs, at most 3 / n of them do, and 3 / (n C) in all."""
    same = np.tile(tables(10)[0][:1], (4, 1))
    low, high = Runs.of(same, strata=LABELS).paired_difference([0, 1], [2, 3]).interval()
    assert (low, high) == pytest.approx((-3 / 5 / 3, 3 / 5 / 3), rel=0.5)
    assert high > 3 / 5 / 3
