"""Learning curves as sentences, as a figure and as rows of `learning_curve.csv`."""

import html
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.learning_curves import Series
from intel_scenes.studies.render.plot import (
    COLOURS,
    SYMBOLS,
    Figure,
    add_band,
    error_bars,
    finish,
    percent,
    rounded,
    spec,
)
from intel_scenes.studies.render.tables import p_value, points
from intel_scenes.studies.statistics.estimates import Estimate
from intel_scenes.studies.statistics.learning_curve import LearningCurve

NUM_DRAWN = 40  # points of a fitted line
MARGIN = 1.1  # ratio of the ends of the axis to the outermost points, and the smallest ratio of two ticks
APART = 1.03  # ratio by which series are shifted along the axis, so that their error bars do not overlap


def curve_sentences(comparison: Comparison) -> list[str]:
    """Return, for each curve of a study, what twice the training images would gain."""
    return [_sentence(series, comparison.on_test) for series in comparison.curves]


def _sentence(series: Series, on_test: str) -> str:
    unknown = f"{f'With {series.label}, the' if series.label else 'The'} gain from twice the training images is unknown"
    if (curve := series.curve) is None:
        return (
            f"{unknown}: to fit a power law, all training set sizes must share at least two seeds, and each size must "
            "have errors."
        )
    most, twice = series.sizes[-1], series.twice
    low, high = curve.gain(most, twice).interval()
    if high - low > 2 * (1 - curve.accuracy(most).value):
        return f"{unknown}: its 95 % CI is wider than the remaining error. More seeds, sizes or epochs would narrow it."
    begins = f"With {series.label}, twice" if series.label else "Twice"
    law = f"the power law error = {curve.scale:.3g} n^{-curve.exponent().value:.3g}"
    fit = f"{law}, fitted to {len(series.sizes)} training set sizes"
    gain = curve.gain(most, twice)
    sentence = (
        f"{begins} the training images ({twice:,.0f}, extrapolated) would gain about {points(gain.value)} points of "
        f"{on_test} (95 % CI {_interval(gain)})"
    )
    if not curve.may_bend:
        return " ".join([f"{sentence}, assuming {fit}, which are too few to test it.", *_remarks(series, curve)])
    exact = curve.gain(most, twice, is_straight=True)
    if_exact = f"If {fit}, held exactly, the gain would be {points(exact.value)} points ({_interval(exact)})."
    return " ".join([f"{sentence}.", if_exact, *_remarks(series, curve)])


def _interval(estimate: Estimate) -> str:
    low, high = estimate.interval()
    return f"{points(low)} to {points(high)}"


def _remarks(series: Series, curve: LearningCurve) -> list[str]:
    remarks = []
    if curve.may_bend and (bend_p := curve.bend().p_value()) < 0.05:
        pace = "more slowly" if curve.bend().value > 0 else "faster"
        remarks.append(f"At larger sizes the error falls {pace} than by this law ({p_value(bend_p, 'p')}).")
    if series.has_one_subset:
        remarks.append(
            "All seeds share one subset, so the interval does not include the variance from drawing it "
            "(data.subset_seed=null draws one per seed)."
        )
    return remarks


def curve_columns(comparison: Comparison) -> list[str]:
    """Return the columns of `learning_curve.csv`, one of which is the primary metric."""
    return [
        *(
            "series",
            "kind",
            "num_train",
            "num_seeds",
            comparison.primary,
            "low",
            "high",
            "curve",
            "curve_low",
            "curve_high",
        ),
        *("scale", "exponent", "exponent_low", "exponent_high", "gain_of_twice", "gain_low", "gain_high", "bend_p"),
    ]


def curve_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of `learning_curve.csv`: each training set size, then twice the largest, with the fit."""
    return [
        dict(zip(curve_columns(comparison), row, strict=True)) for series in comparison.curves for row in _rows(series)
    ]


def _rows(series: Series) -> list[tuple[object, ...]]:
    curve = series.curve
    fit: tuple[object, ...] = (None,) * 8
    if curve is not None:
        exponent, gain = curve.exponent(), curve.gain(series.sizes[-1], series.twice)
        fit = (curve.scale, exponent.value, *exponent.interval(), gain.value, *gain.interval(), curve.bend().p_value())
    rows: list[tuple[object, ...]] = []
    for configuration, size in zip(series.configurations, series.sizes, strict=True):
        measured = (
            len(configuration.evaluated),
            configuration.test_accuracy,
            *(configuration.interval or (None, None)),
        )
        rows.append((series.label, "measured", size, *measured, *_on_curve(curve, size), *fit))
    if curve is not None:
        unmeasured = (series.num_seeds, None, None, None)
        rows.append((series.label, "extrapolated", series.twice, *unmeasured, *_on_curve(curve, series.twice), *fit))
    return rows


def _on_curve(curve: LearningCurve | None, size: float) -> tuple[float | None, ...]:
    if curve is None:
        return None, None, None
    accuracy = curve.accuracy(size)
    return accuracy.value, *accuracy.interval()


def curve_figures(comparison: Comparison) -> list[Figure]:
    """Return test accuracy against the number of training images, with the fitted curves up to twice the largest."""
    drawn = comparison.curves[: len(COLOURS)]
    if not drawn:
        return []
    figure = go.Figure()
    for place, series in enumerate(drawn):
        if series.curve is not None:
            _add_curve(figure, series, series.curve, place)
        _add_points(figure, series, place)
    finish(figure, 380, "training images", f"{comparison.on_test} (%)")
    sizes = sorted({round(size) for series in drawn for size in (*series.sizes, series.twice)})
    ticks = [size for before, size in zip([0, *sizes], sizes, strict=False) if size > MARGIN * before]
    ends = rounded([math.log10(sizes[0] / MARGIN), math.log10(sizes[-1] * MARGIN)], 3)
    figure.update_xaxes(type="log", range=ends, tickvals=ticks, ticktext=[f"{size:,}" for size in ticks])
    head = ["curve", "training images", "seeds", "test %", "low", "high", "fit %", "low", "high"]
    rows = [
        [str(row["series"]), f"{row['num_train']:,.0f}", str(row["num_seeds"]), *map(_cell, list(row.values())[4:10])]
        for row in curve_rows(comparison)
    ]
    more = len(comparison.curves) - len(drawn)
    title = (
        f"{comparison.on_test.capitalize()} (%) by number of training images, 95 % intervals; dashed: extrapolated"
        + (f" (the first {len(drawn)} of {len(comparison.curves)} curves)" if more else "")
    )
    return [Figure("learning-curve", title, " ".join(curve_sentences(comparison)), spec(figure), [head, *rows])]


def _cell(value: float | None) -> str:
    return "" if value is None else percent(value)


def _add_points(figure: go.Figure, series: Series, place: int) -> None:
    values = [100 * configuration.test_accuracy for configuration in series.configurations]
    ends = [
        (100 * low, 100 * high)
        for configuration in series.configurations
        for low, high in [configuration.interval or (configuration.test_accuracy, configuration.test_accuracy)]
    ]
    figure.add_scatter(
        x=rounded(size * APART**place for size in series.sizes),
        y=rounded(values),
        error_y=error_bars(values, ends, COLOURS[place]),
        mode="markers",
        marker={"color": COLOURS[place], "symbol": SYMBOLS[place], "size": 8},
        name=html.escape(series.label or "mean over seeds"),
        legendgroup=str(place),
        customdata=[
            f"{size:,.0f} images: {low:.2f} to {high:.2f}" for size, (low, high) in zip(series.sizes, ends, strict=True)
        ],
        hovertemplate="%{y:.2f} % (%{customdata})<extra></extra>",
    )


def _add_curve(figure: go.Figure, series: Series, curve: LearningCurve, place: int) -> None:
    most = series.sizes[-1]
    inside = np.geomspace(series.sizes[0], most, NUM_DRAWN)
    beyond = np.geomspace(most, series.twice, NUM_DRAWN // 4)
    colour = COLOURS[place]
    for sizes, dash in ((inside, "solid"), (beyond, "dash")):
        estimates = [curve.accuracy(size) for size in sizes.tolist()]
        low, high = zip(*(estimate.interval() for estimate in estimates), strict=True)
        bottom, top = ([100 * min(1.0, value) for value in bound] for bound in (low, high))
        add_band(figure, rounded(sizes), bottom, top, colour=colour, opacity=0.12, group=str(place))
        figure.add_scatter(
            x=rounded(sizes),
            y=rounded(100 * estimate.value for estimate in estimates),
            mode="lines",
            line={"color": colour, "dash": dash},
            hoverinfo="skip",
            legendgroup=str(place),
            showlegend=False,
        )
