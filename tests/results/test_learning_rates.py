"""The best rate by batch: simulated studies whose best rates follow a known law."""

import csv
import itertools
import json

import numpy as np
import pytest
from scipy import stats

from intel_scenes import record
from intel_scenes.errors import UserError
from results import plots
from results.learning_rates import analyse
from tests.results.simulated_question import leave_noise
from tests.studies.simulated_records import leave_run, right

BATCHES = (16, 64, 256, 1024, 4096)
RATES = tuple(float(f"{rate:.4g}") for rate in np.geomspace(0.001, 10, 9))


def saturating(batch, lr_max=1.0, noise=300.0):
    return lr_max / (1 + noise / batch)


def root(batch):
    return 0.01 * batch**0.5


def simulated(law, *, batches=BATCHES, rates=RATES, num_seeds=3, sd=0.0005, rng=0):
    """Return cells whose accuracy is a parabola around the law's rate, with noise of the seeds."""
    generator = np.random.default_rng(rng)
    rates = np.array(rates)
    result = []
    for batch in batches:
        common = 0.01 * generator.normal(size=num_seeds)  # of a seed at all rates: irrelevant to the choice
        noise = sd * generator.normal(size=(len(rates), num_seeds))
        heights = 0.93 - 0.004 * np.log(rates / law(batch)) ** 2
        result.append(analyse.Batch(batch, rates, heights[:, None] + common + noise, ((),) * len(rates)))
    return result


def fits_of(batches):
    return {fit.parameter: fit for fit in analyse.analysed("", batches).fits}


def leave_study(folder, law, *, batches, rates, seeds=(1,), **more):
    """Write records of the same, without noise; `more` are further keys that were typed."""
    for batch, rate, seed in itertools.product(batches, rates, seeds):
        height = 0.9 - 0.004 * np.log(rate / law(batch)) ** 2 + 0.0001 * seed
        typed = {**more, "data.batch_size": batch, "lr_scale": rate, "seed": seed}
        values = {"lr": rate, "batch_size": batch, "val_accuracy": float(height), "val_loss": 1.0 - float(height)}
        name = ",".join(str(value) for value in typed.values())
        leave_run(folder, name, typed, right(0.9, 12), epochs=1, **values, **more)
    return folder


def test_the_parabola_finds_the_vertex_between_the_rates():
    rates = np.array([0.01, 0.02, 0.1, 0.3, 1.0])  # unequal steps
    means = np.array([-(np.log(rates / best) ** 2) for best in (0.07, 0.03, 0.5)])

    assert np.exp(analyse.vertices(rates, means)) == pytest.approx([0.07, 0.03, 0.5])


def test_a_flat_top_lies_between_its_rates_and_a_best_rate_at_an_edge_stays_there():
    means = np.array([[0.1, 0.5, 0.5], [0.5, 0.4, 0.3], [0.1, 0.2, 0.9], [0.3, 0.3, 0.3]])

    assert np.exp(analyse.vertices(np.array([1.0, 2.0, 4.0]), means)) == pytest.approx([8**0.5, 1, 4, 1])


def test_the_saturating_law_is_found_with_its_noise_scale():
    fits = fits_of(simulated(saturating))

    assert fits["B_noise"].low < 300 < fits["B_noise"].high
    assert fits["B_noise"].high / fits["B_noise"].low < 4
    assert fits["lr_max"].low < 1 < fits["lr_max"].high
    assert not fits["B_noise"].at_bound
    assert fits["B_noise"].residual < fits["exponent"].residual


def test_a_power_law_is_found_with_its_exponent_and_fits_better_than_saturation():
    fits = fits_of(simulated(root))

    assert fits["exponent"].low < 0.5 < fits["exponent"].high
    assert fits["exponent"].high - fits["exponent"].low < 0.2
    assert fits["exponent"].residual < fits["B_noise"].residual


@pytest.mark.parametrize(("law", "bound"), [(lambda batch: 0.1, 0), (lambda batch: batch / 1000, 1)])
def test_a_constant_or_linear_best_rate_has_exponent_0_or_1_and_says_nothing_about_the_noise_scale(law, bound):
    fits = fits_of(simulated(law, batches=(16, 64, 256, 1024)))

    assert fits["exponent"].value == pytest.approx(bound, abs=0.05)
    assert (fits["exponent"].low, fits["exponent"].high)[bound] == bound
    end = (fits["B_noise"].low, fits["B_noise"].high)[bound]
    assert end == pytest.approx((16 / 100, 1024 * 100)[bound], rel=0.01)  # the bounds of the search


def test_the_intervals_cover_the_truth_in_most_simulated_studies():
    covered = []
    for number in range(25):
        series = analyse.analysed("", simulated(root, sd=0.002, rng=number))
        exponent = next(fit for fit in series.fits if fit.parameter == "exponent")
        covered.append((exponent.low <= 0.5 <= exponent.high, series.best[2].low <= root(256) <= series.best[2].high))

    assert np.mean(covered, axis=0).min() >= 0.8  # 95 % less three standard errors of 4.4 points, rounded


def test_an_optimum_at_an_edge_is_named_and_excluded():
    batches = simulated(root, batches=(4, 16, 64, 256), rates=(0.025, 0.05, 0.1, 0.2, 0.4))

    series = analyse.analysed("", batches)

    assert [best.edge for best in series.best] == ["lowest", "", "", ""]  # 0.02 lies below the grid
    assert series.best[0].best_lr == pytest.approx(0.025)
    assert series.best[0].share_at_edge > 0.5
    assert {fit.num_batches for fit in series.fits} == {3}
    assert any("batch 4" in text and "at the lowest rate tried" in text for text in analyse.sentences([series]))


def test_without_two_optima_inside_the_grid_nothing_is_fitted():
    series = analyse.analysed("", simulated(lambda batch: 100.0, batches=(16, 64)))

    assert series.fits == ()
    assert [best.edge for best in series.best] == ["highest", "highest"]


def test_one_seed_gives_estimates_without_intervals():
    fits = fits_of(simulated(root, num_seeds=1, sd=0.0))

    assert fits["exponent"].value == pytest.approx(0.5, abs=0.001)
    assert {fit.low for fit in fits.values()} == {None}


def test_excess_scatter_around_a_law_widens_its_interval():
    def width(scatter):
        signs = dict(zip(BATCHES, (1, -1, 0, 1, -1), strict=True))
        fits = fits_of(simulated(lambda batch: root(batch) * np.exp(scatter * signs[batch])))
        return fits["exponent"].high - fits["exponent"].low

    assert width(0.3) > 3 * width(0.0)


def test_the_interval_of_four_scattered_best_rates_is_that_of_a_regression():
    scatter = dict(zip(BATCHES, (0.1, -0.2, 0.2, -0.1), strict=False))
    batches = simulated(lambda batch: root(batch) * np.exp(scatter[batch]), batches=BATCHES[:4], sd=1e-6)

    exponent = fits_of(batches)["exponent"]

    rates = [root(batch) * np.exp(scatter[batch]) for batch in BATCHES[:4]]
    line = stats.linregress(np.log(BATCHES[:4]), np.log(rates))
    half = stats.t.ppf(0.975, 2) * line.stderr
    assert exponent.value == pytest.approx(line.slope, abs=0.001)
    assert (exponent.high - exponent.low) / 2 == pytest.approx(half, rel=0.25)  # of a thousand draws


def test_the_growth_compares_the_ends_and_needs_no_law():
    scatter = dict(zip(BATCHES, (0.1, -0.2, 0.2, -0.1), strict=False))
    batches = simulated(lambda batch: root(batch) * np.exp(scatter[batch]), batches=BATCHES[:4])

    growth = fits_of(batches)["growth"]

    assert growth.value == pytest.approx(8 * np.exp(-0.2), rel=0.1)  # 64 times the batch
    assert growth.low < 8 * np.exp(-0.2) < growth.high < 1.5 * growth.low


def test_optimizers_are_series_of_their_own(tmp_path):
    for optim, law in (("sgd", saturating), ("adamw", root)):
        leave_study(tmp_path, law, batches=(16, 256, 4096), rates=RATES, optim=optim)

    adamw, sgd = analyse.series_of(tmp_path)

    assert (adamw.name, sgd.name) == ("adamw", "sgd")
    assert adamw.value("exponent") == pytest.approx(0.5, abs=0.001)
    assert sgd.value("B_noise") == pytest.approx(300, rel=0.02)


def test_a_run_that_failed_for_another_reason_than_its_rate_does_not_count(tmp_path):
    leave_study(tmp_path, root, batches=(16,), rates=RATES[:6], seeds=(1, 2))
    folder = next(tmp_path.glob("16,*,2"))
    summary = json.loads((folder / record.SUMMARY).read_text()) | {"status": "failed", "error": "no space left"}
    (folder / record.SUMMARY).write_text(json.dumps(summary))

    (series,) = analyse.series_of(tmp_path)

    assert [best.num_seeds for best in series.best] == [1]
    assert {row[-1] for row in analyse.grid_rows([series], "val_accuracy")} == {0}


def test_a_diverged_run_counts_as_guessing_so_that_it_brackets_the_optimum(tmp_path):
    leave_study(tmp_path, lambda batch: 0.5, batches=(16, 64), rates=(0.1, 0.5, 2.5))
    for folder in tmp_path.glob("*,2.5,*"):
        summary = json.loads((folder / record.SUMMARY).read_text()) | {"status": "failed", "error": "not finite"}
        (folder / record.SUMMARY).write_text(json.dumps(summary))

    (series,) = analyse.series_of(tmp_path)

    assert [best.edge for best in series.best] == ["", ""]
    assert all(0.1 < best.best_lr < 0.5 for best in series.best)
    assert [row[-1] for row in analyse.grid_rows([series], "val_accuracy")] == [0, 0, 1] * 2


def test_fewer_than_three_rates_are_refused(tmp_path):
    leave_study(tmp_path, root, batches=(16,), rates=(0.01, 0.1), seeds=(1, 2))

    with pytest.raises(UserError, match="batch size 16 has 2 learning rates with 2 seeds"):
        analyse.series_of(tmp_path)


def test_the_noise_scale_is_noise_over_signal_each_averaged_first(tmp_path):
    leave_study(tmp_path, saturating, batches=(16, 256, 4096), rates=RATES[2:8])
    for folder in tmp_path.iterdir():
        leave_noise(folder, (1.8, 90), (0.2, 210))  # the mean of the ratios would be 550

    (series,) = analyse.series_of(tmp_path)

    assert series.value("noise_scale") == pytest.approx(150)
    assert series.value("B_noise / noise_scale") == pytest.approx(2, rel=0.02)
    assert [best.noise_scale for best in series.best if not best.edge] == pytest.approx([150] * 3)


def test_the_validation_loss_can_choose_instead(tmp_path):
    leave_study(tmp_path, root, batches=(16, 64), rates=RATES)
    for folder in tmp_path.iterdir():
        summary = json.loads((folder / record.SUMMARY).read_text())
        batch, rate = summary["batch_size"], summary["lr"]
        summary["val_loss"] = 0.2 + 0.01 * float(np.log(rate / (0.02 * batch**0.5)) ** 2)
        (folder / record.SUMMARY).write_text(json.dumps(summary))

    (series,) = analyse.series_of(tmp_path, "val_loss")

    assert [best.best_lr for best in series.best] == pytest.approx([0.08, 0.16])


def test_the_command_writes_three_tables_and_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)
    leave_study(tmp_path / "study", root, batches=(16, 64), rates=RATES[:6], seeds=(1, 2))

    analyse.main([str(tmp_path / "study"), str(tmp_path / "out")])

    with (tmp_path / "out" / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert float(rows[0]["mean"]) == pytest.approx(0.9 - 0.004 * np.log(RATES[0] / 0.04) ** 2 + 0.00015)
    with (tmp_path / "out" / "fits.csv").open() as file:
        parameters = [row["parameter"] for row in csv.DictReader(file)]
    assert parameters == ["growth", "lr_at_1", "exponent", "lr_max", "B_noise"]
    assert (tmp_path / "out" / "learning_rates.png").read_bytes().startswith(b"\x89PNG")
    assert "power, exponent: 0.5 (" in capsys.readouterr().out
