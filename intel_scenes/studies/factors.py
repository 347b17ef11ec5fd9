"""Figures of what each factor of a study does."""

import html
import statistics

import plotly.graph_objects as go

from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.drawing import COLOURS, SYMBOLS, VALID, Figure, finish, rounded, spec


def factor_figures(found: Comparison) -> list[Figure]:
    """For each factor the mean validation accuracy at each level, over all configurations that have it."""
    made = []
    for place, factor in enumerate(found.factors):
        levels = _levels(found, factor)
        if len(levels) < 2:
            continue
        means = {level: 100 * statistics.fmean(values) for level, values in levels.items()}
        figure = go.Figure()
        figure.add_scatter(
            x=[html.escape(level) for level in levels],
            y=rounded(means.values()),
            mode="lines+markers",
            line={"color": VALID},
            customdata=[len(values) for values in levels.values()],
            hovertemplate="%{x}: %{y:.1f} %, mean of %{customdata} configurations<extra></extra>",
        )
        finish(figure, 260, xaxis_type="category")
        made.append(
            Figure(
                f"factor-{place}",
                f"{factor}: valid accuracy (%), mean over the other factors",
                f"The best level of {factor} is {max(means, key=lambda level: means[level])}",
                spec(figure),
                [[factor, "valid %"], *([level, f"{mean:.2f}"] for level, mean in means.items())],
            )
        )
    return made


def _levels(found: Comparison, factor: str) -> dict[str, list[float]]:
    """Validation accuracies of the configurations at each level, numbers in their order."""
    levels: dict[str, list[float]] = {}
    for one in found.configurations:
        levels.setdefault(one.values[factor], []).append(one.val_accuracy)
    return {level: levels[level] for level in sorted(levels, key=_as_number)}


def _as_number(level: str) -> tuple[float, str]:
    try:
        return float(level), level
    except ValueError:
        return float("inf"), level


def interaction_figures(found: Comparison) -> list[Figure]:
    """The two factors whose levels differ most, together: lines that are not parallel are an interaction."""
    spread = {}
    for factor in found.factors:
        means = [statistics.fmean(values) for values in _levels(found, factor).values()]
        if len(means) > 1:
            spread[factor] = max(means) - min(means)
    if len(spread) < 2:
        return []
    first, second = sorted(spread, key=lambda factor: -spread[factor])[:2]
    cells: dict[tuple[str, str], list[float]] = {}
    for one in found.configurations:
        cells.setdefault((one.values[first], one.values[second]), []).append(100 * one.val_accuracy)
    figure, numbers = go.Figure(), [[second, first, "valid %"]]
    for place, level in enumerate(list(_levels(found, second))[: len(COLOURS)]):
        line = [(other, cells[other, level]) for other in _levels(found, first) if (other, level) in cells]
        numbers += [[level, other, f"{statistics.fmean(values):.2f}"] for other, values in line]
        figure.add_scatter(
            x=[html.escape(other) for other, _ in line],
            y=rounded(statistics.fmean(values) for _, values in line),
            mode="lines+markers",
            line={"color": COLOURS[place]},
            marker={"symbol": SYMBOLS[place], "size": 9},
            name=f"{second}={html.escape(level)}",
        )
    finish(figure, 320, xaxis_type="category")
    figure.update_xaxes(categoryorder="array", categoryarray=[html.escape(level) for level in _levels(found, first)])
    says = f"The two factors that matter most are {first} and {second}"
    return [Figure("interaction", f"{first} by {second}: valid accuracy (%)", says, spec(figure), numbers)]


def trials_figure(found: Comparison) -> Figure:
    """Expected best validation accuracy against the number of trials."""
    figure, numbers = go.Figure(), [["arm", "trials", "expected best valid %"]]
    for place, arm in enumerate(found.arms[: len(COLOURS)]):
        curve = [100 * value for value in arm.best_of]
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)),
            y=rounded(curve),
            mode="lines+markers",
            line={"color": COLOURS[place]},
            marker={"symbol": SYMBOLS[place]},
            name=html.escape(arm.label),
        )
        numbers += [[arm.label, str(size), f"{value:.2f}"] for size, value in enumerate(curve, start=1)]
    finish(figure, 320, hovermode="x unified")
    return Figure(
        "trials",
        "Expected best valid accuracy (%) by number of trials",
        f"With all trials {found.arms[0].label} is ahead",
        spec(figure),
        numbers,
    )
