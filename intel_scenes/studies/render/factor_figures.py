"""Figures of what each factor of a study does, and of its trials."""

import html
import math
import statistics
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.effects import cells_of
from intel_scenes.studies.render.plot import (
    COLOURS,
    SYMBOLS,
    Figure,
    are_numbers,
    error_bars,
    finish,
    in_order,
    percent,
    rounded,
    spec,
)
from intel_scenes.studies.statistics.effects import Cell, Interaction, MarginalMean, effects


def marginal_figures(found: Comparison) -> list[Figure]:
    """For each factor of a factorial study the marginal mean of each level with its interval, all on one scale."""
    means = found.effects[found.primary].means if found.primary in found.effects else []
    scale = _scale(means)
    made = []
    for place, factor in enumerate(dict.fromkeys(one.factor for one in means)):
        of_factor = by_level([one for one in means if one.factor == factor])
        levels = [one.level for one in of_factor]
        figure = go.Figure()
        _add_means(figure, of_factor, levels, 0, None)
        finish(figure, 260, html.escape(factor), f"{found.on_test} (%)", xaxis_type="category", yaxis_range=scale)
        said = ", ".join(f"{one.level} {percent(one.mean, 1)}" for one in of_factor)
        head = [factor, "test %", "low", "high", "arms"]
        rows = [[one.level, *map(percent, (one.mean, one.low, one.high)), str(len(one.cells))] for one in of_factor]
        title = f"{factor}: marginal mean of {found.on_test} (%), 95 % interval"
        made.append(Figure(f"mean-{place}", title, f"{title}: {said}", spec(figure), [head, *rows]))
    return made


def by_level(means: Sequence[MarginalMean]) -> list[MarginalMean]:
    """The means of a factor: numbers by size, names by their mean, the highest first."""
    ordered = sorted(means, key=lambda one: -one.mean)
    levels = in_order(one.level for one in ordered)
    return sorted(ordered, key=lambda one: levels.index(one.level))


def _scale(means: Sequence[MarginalMean]) -> list[float | None]:
    low, high = min((one.low for one in means), default=0.0), max((one.high for one in means), default=1.0)
    pad = max(0.05 * (high - low), 0.001)
    return rounded([100 * (low - pad), 100 * (high + pad)])


def _add_means(
    figure: go.Figure, means: Sequence[MarginalMean], levels: Sequence[str], place: int, name: str | None
) -> None:
    """Adds means with error bars; points are joined where all levels of their factor are numbers."""
    values = [100 * one.mean for one in means]
    ends = [(100 * one.low, 100 * one.high) for one in means]
    figure.add_scatter(
        x=[html.escape(one.level) for one in means],
        y=rounded(values),
        error_y=error_bars(values, ends, COLOURS[place]),
        mode="lines+markers" if are_numbers(levels) else "markers",
        line={"color": COLOURS[place]},
        marker={"color": COLOURS[place], "symbol": SYMBOLS[place], "size": 9},
        name=None if name is None else html.escape(name),
        showlegend=name is not None,
        customdata=[f"{low:.2f} to {high:.2f}" for low, high in ends],
        hovertemplate="%{x}: %{y:.2f} % (%{customdata})"
        + (f"<extra>{html.escape(name)}</extra>" if name else "<extra></extra>"),
    )


def interaction_figures(found: Comparison) -> list[Figure]:
    """For each two factors the means of their combinations, the clearest interaction first.

    Where the differences between the points of one level are those of the next, there is no interaction.
    """
    if found.primary not in found.effects:
        return []
    means = found.effects[found.primary].means
    factors = list(dict.fromkeys(one.factor for one in means))
    order = {
        factor: [one.level for one in by_level([one for one in means if one.factor == factor])] for factor in factors
    }
    _, cells = cells_of(found.arms, factors)
    tests = sorted(found.effects[found.primary].interactions, key=lambda one: one.p)
    return [_interaction(number, one, cells, order, found) for number, one in enumerate(tests)]


def _interaction(
    number: int,
    test: Interaction,
    cells: Sequence[Cell],
    order: Mapping[str, Sequence[str]],
    found: Comparison,
) -> Figure:
    """The factor with fewer levels has the colours, at most six of them."""
    levels = dict(zip(test.factors, test.levels, strict=True))
    first, second = sorted(levels, key=lambda factor: -len(levels[factor]))
    ordered = [level for level in order[first] if level in levels[first]]
    all_groups = [level for level in order[second] if level in levels[second]]
    groups = all_groups[: len(COLOURS)]
    figure, numbers = go.Figure(), [[second, first, "test %", "low", "high"]]
    near, strata = found.images.groups, found.images.strata
    for place, group in enumerate(groups):
        within = [cells[index] for index in test.cells if cells[index].levels[second] == group]
        means = {
            one.level: one for one in effects(within, None, groups=near, strata=strata).means if one.factor == first
        }
        line = [means[level] for level in ordered]
        numbers += [[group, one.level, *map(percent, (one.mean, one.low, one.high))] for one in line]
        _add_means(figure, line, ordered, place, f"{second}={group}")
    _spread(figure, ordered)
    finish(figure, 340, html.escape(first), f"{found.on_test} (%)")
    said = f"F({test.df:.1f}, {test.df_denominator:.1f}) = {test.statistic:.2f}, Holm-adjusted p = {test.p_holm:.3g}"
    shown = "an interaction" if test.is_shown else "no interaction shown"
    some = f" (the best {len(groups)} of {len(all_groups)})" if len(all_groups) > len(groups) else ""
    title = f"{first} by {second}{some}: mean {found.on_test} (%), 95 % interval; {shown}"
    return Figure(f"interaction-{number}", title, f"{title}: {said}", spec(figure), numbers)


def _spread(figure: go.Figure, levels: Sequence[str]) -> None:
    """Puts the groups of one level beside each other, so that their error bars do not hide each other."""
    num = len(figure.data)
    for place, trace in enumerate(figure.data):
        trace.x = rounded((position + 0.11 * (place - (num - 1) / 2) for position in range(len(levels))), 3)
        trace.hovertemplate = trace.hovertemplate.replace("%{x}: ", "")
    figure.update_xaxes(
        tickvals=list(range(len(levels))),
        ticktext=[html.escape(level) for level in levels],
        range=[-0.5, len(levels) - 0.5],
        zeroline=False,
    )


def response_figures(found: Comparison) -> list[Figure]:
    """Mean validation accuracy at each value of the one factor that is a number, a line for each arm where it is tuned.

    Standard errors are over the seeds of each configuration alone.
    """
    is_tuned = bool(found.tuned)
    varying = found.tuned if is_tuned else found.compared
    if found.effects or len(varying) != 1 or not are_numbers(one.values[varying[0]] for one in found.configurations):
        return []
    factor = varying[0]
    lines = {arm.label: arm.configurations for arm in found.arms} if is_tuned else {"": found.configurations}
    lines = {label: sorted(all_, key=lambda one: float(one.values[factor])) for label, all_ in lines.items()}
    if max(map(len, lines.values()), default=0) < 2:
        return []
    figure, numbers = go.Figure(), [["arm", factor, "validation %", "standard error", "seeds"]]
    for place, (label, line) in enumerate(list(lines.items())[: len(COLOURS)]):
        errors = [_standard_error(one) for one in line]
        figure.add_scatter(
            x=[float(one.values[factor]) for one in line],
            y=rounded(100 * one.val_accuracy for one in line),
            error_y={"type": "data", "array": rounded((error or 0.0 for error in errors), 3), "color": COLOURS[place]},
            mode="lines+markers",
            line={"color": COLOURS[place]},
            marker={"symbol": SYMBOLS[place], "size": 8},
            name=html.escape(label),
            showlegend=len(lines) > 1,
            hovertemplate=f"{html.escape(label)} %{{x}}: %{{y:.2f}} %<extra></extra>",
        )
        numbers += [
            [label, one.values[factor], percent(one.val_accuracy), _text(error), str(len(one.runs))]
            for one, error in zip(line, errors, strict=True)
        ]
    finish(figure, 320, html.escape(factor), f"{found.on_val} (%)")
    _number_axis(figure, sorted({float(one.values[factor]) for line in lines.values() for one in line}))
    best = found.configurations[0]
    more = f", the first {len(COLOURS)} arms" if len(lines) > len(COLOURS) else ""
    return [
        Figure(
            "response",
            f"Mean {found.on_val} (%) by {factor}, ± standard error over seeds{more}",
            f"Highest mean {found.on_val}: {percent(best.val_accuracy, 1)} % at {factor}={best.values[factor]}",
            spec(figure),
            numbers,
        )
    ]


def _text(error: float | None) -> str:
    return "" if error is None else f"{error:.2f}"


def _standard_error(one: Configuration) -> float | None:
    """Of the mean validation accuracy over seeds, in points; None with one seed."""
    values = [100 * run.val_accuracy for run in one.runs]
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _number_axis(figure: go.Figure, values: Sequence[float]) -> None:
    """A logarithmic axis for numbers over more than a decade; few values are its ticks."""
    is_log = values[0] > 0 and values[-1] >= 10 * values[0]
    if is_log:
        figure.update_xaxes(type="log")
    if len(values) <= 8:
        figure.update_xaxes(tickvals=list(values), ticktext=[f"{value:g}" for value in values])


def trials_figure(found: Comparison) -> Figure:
    """Expected best validation accuracy against the number of trials."""
    figure, numbers = go.Figure(), [["arm", "trials", "expected best validation %"]]
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
    most = max(len(arm.best_of) for arm in found.arms)
    finish(figure, 340, "number of trials", f"{found.on_val} (%)", hovermode="x unified")
    figure.update_xaxes(dtick=max(1, most // 6))
    return Figure(
        "trials",
        f"Expected best {found.on_val} (%) by number of trials",
        f"With all trials {found.arms[0].label} is ahead",
        spec(figure),
        numbers,
    )
