"""Figures of a comparison, each with a sentence that says what it shows and its numbers as a table."""

import html
import statistics
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.collect import history
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.drawing import COLOURS, OTHER, SYMBOLS, TRAIN, VALID, Figure, finish, rounded, spec
from intel_scenes.studies.factors import factor_figures, interaction_figures, trials_figure
from intel_scenes.studies.pairs import Pair

MAX_POINTS = 40  # of a figure with one row for each arm


def figures(found: Comparison, rope: float) -> dict[str, list[Figure]]:
    """The figures by section of the page; a section without any is left out."""
    sections = {
        "differences": [_forest(found, rope)] if _to_leader(found) else [],
        "curves": _curves(found),
        "gap": [_gap(found)] if found.arms else [],
        "cost": _costs(found),
        "factors": [*factor_figures(found), *interaction_figures(found)],
        "trials": [trials_figure(found)] if any(len(arm.configurations) > 1 for arm in found.arms) else [],
    }
    return {section: made for section, made in sections.items() if made}


def _to_leader(found: Comparison) -> list[Pair]:
    pairs = [pair for pair in found.pairs if found.arms[0].label in (pair.a, pair.b) and pair.estimate is not None]
    return pairs[:MAX_POINTS]


def _forest(found: Comparison, rope: float) -> Figure:
    """Differences to the leader with their intervals and verdicts."""
    leader, rows = found.arms[0].label, []
    for pair in _to_leader(found):
        assert pair.estimate is not None
        sign, other = (-1, pair.b) if pair.a == leader else (1, pair.a)
        low, high = sorted(100 * sign * bound for bound in pair.estimate.interval())
        verdict = {"better": "worse", "worse": "better"}.get(pair.text, pair.text) if sign < 0 else pair.text
        rows.append((other, 100 * sign * pair.difference, low, high, verdict))
    figure = go.Figure()
    figure.add_vrect(x0=-100 * rope, x1=100 * rope, fillcolor="rgba(128,128,128,.18)", line_width=0)
    figure.add_vline(x=0, line_color=OTHER)
    for verdict in dict.fromkeys(row[4] for row in rows):
        part = [row for row in rows if row[4] == verdict]
        colour = {"better": "#009E73", "worse": TRAIN, "practically equal": VALID}.get(verdict, OTHER)
        symbol = {"better": "triangle-right", "worse": "triangle-left", "practically equal": "diamond"}.get(verdict)
        figure.add_scatter(
            x=rounded(row[1] for row in part),
            y=[html.escape(row[0]) for row in part],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rounded(row[3] - row[1] for row in part),
                "arrayminus": rounded(row[1] - row[2] for row in part),
                "color": colour,
            },
            mode="markers",
            marker={"color": colour, "symbol": symbol or "circle", "size": 10},
            name=verdict or "not compared",
            hovertemplate="%{y}: %{x:+.2f} points (%{customdata})<extra></extra>",
            customdata=[f"{row[2]:+.2f} to {row[3]:+.2f}" for row in part],
        )
    finish(figure, 130 + 34 * len(rows), xaxis_zeroline=False, showlegend=True)
    names = [html.escape(row[0]) for row in reversed(rows)]
    figure.update_yaxes(categoryorder="array", categoryarray=names)
    numbers = [[row[0], *(f"{number:+.2f}" for number in row[1:4]), row[4]] for row in rows]
    return Figure(
        "differences",
        f"Test accuracy less that of {leader}, in points",
        f"Of {len(rows)} arms, " + _counted([row[4] for row in rows]) + f", compared with {leader}",
        spec(figure),
        [["arm", "difference", "low", "high", "verdict"], *numbers],
    )


def _curves(found: Comparison) -> list[Figure]:
    """Train and valid accuracy by epoch, one panel for each arm, all on one scale."""
    panels = [(arm.label, _by_epoch(arm.chosen)) for arm in found.arms[:MAX_POINTS]]
    panels = [(label, columns) for label, columns in panels if columns]
    values = [value for _, columns in panels for rows in columns.values() for row in rows for value in row]
    if not values:
        return []
    scale = [max(0.0, min(values) - 3), min(101.0, max(values) + 3)]
    return [_panel(number, label, columns, scale) for number, (label, columns) in enumerate(panels)]


def _by_epoch(configuration: Configuration) -> dict[str, list[tuple[float, float, float]]]:
    """Mean, lowest and highest over seeds at each epoch, in percent."""
    tables = [table for run in configuration.runs if (table := history(run.folder))]
    result = {}
    for column in ("val_accuracy", "train_eval_accuracy") if tables else ():
        by_epoch = zip(*(table[column] for table in tables), strict=False)
        result[column] = [(100 * statistics.fmean(values), 100 * min(values), 100 * max(values)) for values in by_epoch]
    return result


def _panel(number: int, label: str, columns: dict[str, list[tuple[float, float, float]]], scale: list[float]) -> Figure:
    figure = go.Figure()
    for column, name, colour, dash in (
        ("train_eval_accuracy", "train", TRAIN, "dash"),
        ("val_accuracy", "valid", VALID, "solid"),
    ):
        rows = columns[column]
        epochs = list(range(len(rows)))
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
        for epoch, (of_train, of_valid) in enumerate(zip(train, valid, strict=True))
    ]
    gap = train[-1][0] - valid[-1][0]
    return Figure(
        f"curves-{number}",
        label,
        f"{label}: valid accuracy ends at {valid[-1][0]:.1f} %, train at {train[-1][0]:.1f} %, a gap of {gap:+.1f}",
        spec(figure),
        [["epoch", "train %", "low", "high", "valid %", "low", "high"], *numbers],
    )


def _gap(found: Comparison) -> Figure:
    """Train less valid accuracy, each seed a point."""
    figure = go.Figure()
    arms = found.arms[:MAX_POINTS]
    for arm in arms:
        runs = arm.chosen.runs
        figure.add_scatter(
            x=rounded(100 * (run.summary["train_accuracy"] - run.summary["val_accuracy"]) for run in runs),
            y=[html.escape(arm.label)] * len(runs),
            mode="markers",
            marker={"color": OTHER, "size": 6},
            showlegend=False,
            hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
        )
    figure.add_scatter(
        x=rounded(100 * arm.chosen.gap for arm in arms),
        y=[html.escape(arm.label) for arm in arms],
        mode="markers",
        marker={"color": VALID, "symbol": "line-ns-open", "size": 16, "line": {"width": 3}},
        name="mean over seeds",
        hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
    )
    finish(figure, 120 + 30 * len(arms))
    figure.update_yaxes(categoryorder="array", categoryarray=[html.escape(arm.label) for arm in reversed(arms)])
    widest = max(arms, key=lambda arm: arm.chosen.gap)
    return Figure(
        "gap",
        "Train less valid accuracy at the best epoch, in points",
        f"The widest gap is that of {widest.label}, {100 * widest.chosen.gap:+.1f} points",
        spec(figure),
        [["arm", "gap"], *([arm.label, f"{100 * arm.chosen.gap:+.2f}"] for arm in arms)],
    )


def _costs(found: Comparison) -> list[Figure]:
    """Test accuracy against minutes, within the device that most runs share, and against parameters."""
    devices = [str(run.summary["device"]) for run in found.runs]
    device = max(sorted(set(devices)), key=devices.count) if devices else ""
    timed = [arm.chosen for arm in found.arms if {str(run.summary["device"]) for run in arm.chosen.runs} == {device}]
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
            textposition="bottom right",
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
