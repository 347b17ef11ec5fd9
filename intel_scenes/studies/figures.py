"""Figures of a comparison, each with a sentence that says what it shows and its numbers as a table."""

import html
import statistics
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from intel_scenes.record import History
from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.drawing import COLOURS, OTHER, SYMBOLS, TRAIN, VALID, Figure, finish, rounded, spec
from intel_scenes.studies.factors import factor_figures, interaction_figures, trials_figure
from intel_scenes.studies.pairs import Pair
from intel_scenes.studies.statistics.verdicts import BETTER, EQUAL, WORSE

MAX_POINTS = 40  # of a figure with one row for each arm


def figures(found: Comparison, rope: float) -> dict[str, list[Figure]]:
    """The figures by section of the page; a section without any is left out."""
    sections = {
        "differences": _forest(found, rope),
        "curves": _curves(found),
        "gap": _gap(found),
        "cost": _costs(found),
        "factors": [*factor_figures(found), *interaction_figures(found)],
        "trials": [trials_figure(found)] if any(len(arm.configurations) > 1 for arm in found.arms) else [],
    }
    return {section: made for section, made in sections.items() if made}


COLOUR_OF = {BETTER: "#009E73", WORSE: TRAIN, EQUAL: VALID}
SYMBOL_OF = {BETTER: "triangle-right", WORSE: "triangle-left", EQUAL: "diamond"}


def _forest(found: Comparison, rope: float) -> list[Figure]:
    """Differences to the reference with their intervals and verdicts."""
    pairs = [pair for pair in found.to_reference() if pair.estimate is not None][:MAX_POINTS]
    if not pairs:
        return []
    figure = go.Figure()
    figure.add_vrect(x0=-100 * rope, x1=100 * rope, fillcolor="rgba(128,128,128,.18)", line_width=0)
    figure.add_vline(x=0, line_color=OTHER)
    for verdict in dict.fromkeys(pair.text for pair in pairs):
        part = [pair for pair in pairs if pair.text == verdict]
        bounds = [_bounds(pair) for pair in part]
        colour = COLOUR_OF.get(verdict, OTHER)
        figure.add_scatter(
            x=rounded(100 * pair.difference for pair in part),
            y=[html.escape(pair.a) for pair in part],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rounded(high - 100 * pair.difference for pair, (_, high) in zip(part, bounds, strict=True)),
                "arrayminus": rounded(100 * pair.difference - low for pair, (low, _) in zip(part, bounds, strict=True)),
                "color": colour,
            },
            mode="markers",
            marker={"color": colour, "symbol": SYMBOL_OF.get(verdict, "circle"), "size": 10},
            name=verdict or "not compared",
            hovertemplate="%{y}: %{x:+.2f} points (%{customdata})<extra></extra>",
            customdata=[
                f"{low:+.2f} to {high:+.2f}; P(better) {pair.p_better[0]:.2f}"
                for pair, (low, high) in zip(part, bounds, strict=True)
            ],
        )
    finish(figure, 130 + 34 * len(pairs), xaxis_zeroline=False, showlegend=True)
    names = [html.escape(pair.a) for pair in reversed(pairs)]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names)
    head = ["arm", "difference", "low", "high", "verdict", "P(better)", "low", "high"]
    numbers = [
        [
            *(pair.a, *(f"{number:+.2f}" for number in (100 * pair.difference, *_bounds(pair))), pair.text),
            *(f"{chance:.2f}" for chance in pair.p_better),
        ]
        for pair in pairs
    ]
    made = Figure(
        "differences",
        f"Test accuracy less that of {found.reference}, in points",
        f"Of {len(pairs)} arms, {_counted([pair.text for pair in pairs])}, compared with {found.reference}",
        spec(figure),
        [head, *numbers],
    )
    return [made]


def _bounds(pair: Pair) -> tuple[float, float]:
    """The interval that goes with the verdict, in points; that of the pair alone where it has none."""
    assert pair.estimate is not None
    low, high = pair.adjusted_interval() or pair.estimate.interval()
    return 100 * low, 100 * high


def _curves(found: Comparison) -> list[Figure]:
    """Train and valid accuracy by epoch (from 1), one panel for each arm, all on one scale."""
    panels = [(arm.label, _by_epoch(arm.chosen)) for arm in found.arms[:MAX_POINTS]]
    panels = [(label, columns) for label, columns in panels if columns]
    values = [value for _, columns in panels for rows in columns.values() for row in rows for value in row]
    if not values:
        return []
    scale = [max(0.0, min(values) - 3), min(101.0, max(values) + 3)]
    return [_panel(number, label, columns, scale) for number, (label, columns) in enumerate(panels)]


def _by_epoch(configuration: Configuration) -> dict[str, list[tuple[float, float, float]]]:
    """Mean, lowest and highest over seeds at each epoch, in percent."""
    histories = [history for run in configuration.runs if (history := History.read(run.folder)).epochs]
    result = {}
    for column in ("val_accuracy", "train_eval_accuracy") if histories else ():
        by_epoch = zip(*([getattr(epoch, column) for epoch in one.epochs] for one in histories), strict=False)
        result[column] = [(100 * statistics.fmean(values), 100 * min(values), 100 * max(values)) for values in by_epoch]
    return result


def _panel(number: int, label: str, columns: dict[str, list[tuple[float, float, float]]], scale: list[float]) -> Figure:
    figure = go.Figure()
    for column, name, colour, dash in (
        ("train_eval_accuracy", "train", TRAIN, "dash"),
        ("val_accuracy", "valid", VALID, "solid"),
    ):
        rows = columns[column]
        epochs = list(range(1, len(rows) + 1))
        if any(high > low for _, low, high in rows):
            figure.add_scatter(
                x=[*epochs, *reversed(epochs)],
                y=rounded([*(high for *_, high in rows), *reversed([low for _, low, _ in rows])]),
                fill="toself",
                fillcolor=colour,
                opacity=0.18,
                line_width=0,
                mode="lines",
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        figure.add_scatter(
            x=epochs,
            y=rounded(mean for mean, *_ in rows),
            customdata=[f"{low:.1f} to {high:.1f}" for _, low, high in rows],
            hovertemplate=f"{name} %{{y:.1f}} (%{{customdata}})<extra></extra>",
            mode="lines+markers" if len(rows) == 1 else "lines",
            line={"color": colour, "dash": dash},
            name=name,
            legendgroup=name,
        )
    finish(figure, 260, hovermode="x unified", yaxis_range=rounded(scale), xaxis_dtick=max(1, len(rows) // 6))
    train, valid = columns["train_eval_accuracy"], columns["val_accuracy"]
    numbers = [
        [str(epoch), *(f"{value:.1f}" for value in (*of_train, *of_valid))]
        for epoch, (of_train, of_valid) in enumerate(zip(train, valid, strict=True), start=1)
    ]
    gap = train[-1][0] - valid[-1][0]
    return Figure(
        f"curves-{number}",
        label,
        f"{label}: valid accuracy ends at {valid[-1][0]:.1f} %, train at {train[-1][0]:.1f} %, a gap of {gap:+.1f}",
        spec(figure),
        [["epoch", "train %", "low", "high", "valid %", "low", "high"], *numbers],
    )


def _gap(found: Comparison) -> list[Figure]:
    """Train less valid accuracy, each seed a point."""
    gaps = [(arm.label, [100 * gap for gap in arm.chosen.gaps]) for arm in found.arms if arm.chosen.gaps]
    gaps = gaps[:MAX_POINTS]
    if not gaps:
        return []
    means = {label: statistics.fmean(values) for label, values in gaps}
    figure = go.Figure()
    for label, values in gaps:
        figure.add_scatter(
            x=rounded(values),
            y=[html.escape(label)] * len(values),
            mode="markers",
            marker={"color": OTHER, "size": 6},
            showlegend=False,
            hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
        )
    figure.add_scatter(
        x=rounded(means.values()),
        y=[html.escape(label) for label in means],
        mode="markers",
        marker={"color": VALID, "symbol": "line-ns-open", "size": 16, "line": {"width": 3}},
        name="mean over seeds",
        hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
    )
    finish(figure, 120 + 30 * len(gaps))
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=[html.escape(label) for label in reversed(means)]
    )
    widest = max(means, key=lambda label: means[label])
    made = Figure(
        "gap",
        "Train less valid accuracy at the best epoch, in points",
        f"The widest gap is that of {widest}, {means[widest]:+.1f} points",
        spec(figure),
        [["arm", "gap"], *([label, f"{mean:+.2f}"] for label, mean in means.items())],
    )
    return [made]


def _costs(found: Comparison) -> list[Figure]:
    """Test accuracy against minutes, within the device that most runs share, and against parameters."""
    devices = [str(run.summary.device) for run in found.runs]
    device = max(sorted(set(devices)), key=devices.count) if devices else ""
    timed = [arm.chosen for arm in found.arms if arm.chosen.devices == [device] and arm.chosen.mean("fit_seconds")]
    sized = [arm.chosen for arm in found.arms if arm.chosen.mean("parameters")]
    made = []
    if timed:
        made.append(_cost(found, "minutes", f"minutes of training on {device}", timed, _minutes))
    if len({one.mean("parameters") for one in sized}) > 1:
        made.append(_cost(found, "parameters", "millions of parameters", sized, _millions))
    return made


def _minutes(one: Configuration) -> float:
    return (one.mean("fit_seconds") or 0.0) / 60


def _millions(one: Configuration) -> float:
    return (one.mean("parameters") or 0.0) / 1e6


def _cost(
    found: Comparison, name: str, unit: str, chosen: Sequence[Configuration], cost: Callable[[Configuration], float]
) -> Figure:
    labels = {id(arm.chosen): arm.label for arm in found.arms}
    found_points = ((cost(one), 100 * one.test_accuracy, labels[id(one)]) for one in chosen[:MAX_POINTS])
    points = sorted(found_points, key=lambda point: (point[0], -point[1], point[2]))
    frontier, best = [], float("-inf")
    for point in points:
        if point[1] > best:
            frontier.append(point)
            best = point[1]
    figure = go.Figure()
    figure.add_scatter(
        x=rounded((point[0] for point in frontier), 4),
        y=rounded(point[1] for point in frontier),
        mode="lines",
        line={"color": OTHER, "dash": "dot", "shape": "hv"},
        name="frontier",
        hoverinfo="skip",
    )
    rank = {arm.label: place for place, arm in enumerate(found.arms)}
    for x, y, label in points:
        place = rank[label]
        is_coloured = place < len(COLOURS)
        figure.add_scatter(
            x=rounded([x], 4),
            y=rounded([y]),
            text=[html.escape(label)] if (x, y, label) in frontier else None,
            textposition="bottom left" if 2 * x > points[-1][0] else "bottom right",
            mode="markers+text" if (x, y, label) in frontier else "markers",
            marker={
                "size": 11,
                "color": COLOURS[place] if is_coloured else OTHER,
                "symbol": SYMBOLS[place] if is_coloured else "circle-open",
            },
            name=html.escape(label),
            showlegend=is_coloured,
            cliponaxis=False,
            hovertemplate=f"{html.escape(label)}: %{{y:.1f}} %, %{{x:.3g}}<extra></extra>",
        )
    finish(figure, 360, xaxis_rangemode="tozero")
    return Figure(
        name,
        f"Test accuracy (%) against {unit}",
        f"Not beaten at their cost are {', '.join(label for *_, label in frontier)}",
        spec(figure),
        [["arm", unit, "test %"], *([label, f"{x:.3g}", f"{y:.2f}"] for x, y, label in points)],
    )


def _counted(texts: Sequence[str]) -> str:
    return ", ".join(f"{texts.count(text)} {text or 'not compared'}" for text in dict.fromkeys(texts))
