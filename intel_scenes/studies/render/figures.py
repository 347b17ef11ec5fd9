"""Figures of a comparison, each with a sentence that describes it and a table of its numbers."""

import statistics
from collections.abc import Sequence

import plotly.graph_objects as go

from intel_scenes.record import History
from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.pairs import Pair
from intel_scenes.studies.render.cost_figures import cost_figures
from intel_scenes.studies.render.factor_figures import (
    interaction_figures,
    marginal_figures,
    response_figures,
    trials_figure,
)
from intel_scenes.studies.render.learning_curves import curve_figures
from intel_scenes.studies.render.plot import (
    MAX_POINTS,
    OTHER,
    TRAIN,
    VAL,
    Figure,
    add_band,
    error_bars,
    finish,
    one_row_each,
    rounded,
    spec,
    wrapped,
)
from intel_scenes.studies.statistics.verdicts import BETTER, EQUAL, WORSE


def figures(comparison: Comparison) -> dict[str, list[Figure]]:
    """Return the figures by section of the page; a section without figures is left out."""
    sections = {
        "learning": curve_figures(comparison),
        "means": marginal_figures(comparison),
        "interactions": interaction_figures(comparison),
        "response": response_figures(comparison),
        "differences": _forest(comparison),
        "cost": cost_figures(comparison),
        "curves": _curves(comparison),
        "gap": _gap(comparison),
        "trials": [trials_figure(comparison)] if any(len(arm.configurations) > 1 for arm in comparison.arms) else [],
    }
    return {section: of_section for section, of_section in sections.items() if of_section}


COLOUR_OF = {BETTER: "#009E73", WORSE: TRAIN, EQUAL: VAL}
SYMBOL_OF = {BETTER: "triangle-right", WORSE: "triangle-left", EQUAL: "diamond"}


def _forest(comparison: Comparison) -> list[Figure]:
    """Return the forest plot: differences from the reference with their intervals and verdicts."""
    pairs = [pair for pair in comparison.to_reference() if pair.estimate is not None][:MAX_POINTS]
    if not pairs:
        return []
    figure = go.Figure()
    figure.add_vrect(
        x0=-100 * comparison.rope, x1=100 * comparison.rope, fillcolor="rgba(128,128,128,.18)", line_width=0
    )
    figure.add_vline(x=0, line_color=OTHER)
    differences = [100 * pair.difference for pair in pairs]
    simultaneous = [_points(pair, pair.bonferroni_interval()) for pair in pairs]
    figure.add_scatter(  # drawn first, so that the thin lines lie below the thick ones
        x=rounded(differences),
        y=[wrapped(pair.a) for pair in pairs],
        error_x=error_bars(differences, simultaneous, OTHER, thickness=1, width=0),
        mode="markers",
        marker={"color": OTHER, "symbol": "line-ew-open", "size": 14, "line": {"width": 1}},
        name="simultaneous (Bonferroni)",
        hoverinfo="skip",
    )
    for verdict in dict.fromkeys(pair.text for pair in pairs):
        part = [pair for pair in pairs if pair.text == verdict]
        values = [100 * pair.difference for pair in part]
        bounds = [_points(pair, pair.holm_interval()) for pair in part]
        colour = COLOUR_OF.get(verdict, OTHER)
        figure.add_scatter(
            x=rounded(values),
            y=[wrapped(pair.a) for pair in part],
            error_x=error_bars(values, bounds, colour, thickness=3),
            mode="markers",
            marker={"color": colour, "symbol": SYMBOL_OF.get(verdict, "circle"), "size": 10},
            name=verdict or "not compared",
            hovertemplate="%{y}: %{x:+.2f} points (%{customdata})<extra></extra>",
            customdata=[f"{low:+.2f} to {high:+.2f}" for low, high in bounds],
        )
    labels = [pair.a for pair in pairs]
    one_row_each(figure, labels, f"difference in {comparison.on_test} (points)", xaxis_zeroline=False, showlegend=True)
    head = ["arm", "difference", "low (Holm)", "high (Holm)", "low (Bonferroni)", "high (Bonferroni)", "verdict"]
    rows = [
        [
            pair.a,
            *(f"{end:+.2f}" for end in (value, *_points(pair, pair.holm_interval()), *thin)),
            pair.text,
        ]
        for pair, value, thin in zip(pairs, differences, simultaneous, strict=True)
    ]
    more = len(comparison.arms) - 1 - len(pairs)
    forest = Figure(
        "differences",
        f"Difference in {comparison.on_test} from {comparison.reference} (points)"
        + (f": the first {len(pairs)} arms on validation" if more > 0 and len(pairs) == MAX_POINTS else ""),
        f"Of {len(pairs)} arms, {_counted([pair.text for pair in pairs])}, compared with {comparison.reference}",
        spec(figure),
        [head, *rows],
    )
    return [forest]


def _points(pair: Pair, interval: tuple[float, float] | None) -> tuple[float, float]:
    """Return an interval in points; for a pair outside the family, the unadjusted one."""
    assert pair.estimate is not None
    low, high = interval or pair.estimate.interval()
    return 100 * low, 100 * high


Band = list[tuple[float, float, float]]  # mean, minimum and maximum over seeds at each epoch


def _curves(comparison: Comparison) -> list[Figure]:
    """Return training and validation accuracy by epoch (from 1), one panel per arm, all on one scale."""
    panels = [(arm.label, _by_epoch(arm.tested)) for arm in comparison.arms[:MAX_POINTS]]
    panels = [(label, columns) for label, columns in panels if columns]
    values = [value for _, columns in panels for rows in columns.values() for row in rows for value in row]
    if not values:
        return []
    scale = [max(0.0, min(values) - 3), min(101.0, max(values) + 3)]
    return [_panel(place, label, columns, scale) for place, (label, columns) in enumerate(panels)]


def _by_epoch(configuration: Configuration) -> dict[str, Band]:
    """Return mean, minimum and maximum over seeds at each epoch, in percent, by column of `history.csv`."""
    histories = [history for run in configuration.runs if (history := History.read(run.folder)).epochs]
    bands = {}
    for column in ("val_accuracy", "train_eval_accuracy") if histories else ():
        by_epoch = zip(*([getattr(epoch, column) for epoch in history.epochs] for history in histories), strict=False)
        bands[column] = [(100 * statistics.fmean(values), 100 * min(values), 100 * max(values)) for values in by_epoch]
    return bands


def _panel(place: int, label: str, columns: dict[str, Band], scale: list[float]) -> Figure:
    figure = go.Figure()
    for column, name, colour, dash in (
        ("train_eval_accuracy", "train", TRAIN, "dash"),
        ("val_accuracy", "validation", VAL, "solid"),
    ):
        rows = columns[column]
        epochs = list(range(1, len(rows) + 1))
        if any(high > low for _, low, high in rows):
            _, low, high = zip(*rows, strict=True)
            add_band(figure, epochs, low, high, colour=colour, opacity=0.18, group=name)
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
    ticks = {"xaxis_dtick": max(1, len(rows) // 6), "yaxis_range": rounded(scale)}
    finish(figure, 280, "epoch", "accuracy (%)", hovermode="x unified", **ticks)
    train, val = columns["train_eval_accuracy"], columns["val_accuracy"]
    numbers = [
        [str(epoch), *(f"{value:.1f}" for value in (*of_train, *of_val))]
        for epoch, (of_train, of_val) in enumerate(zip(train, val, strict=True), start=1)
    ]
    gap = train[-1][0] - val[-1][0]
    return Figure(
        f"curves-{place}",
        label,
        f"{label}: validation accuracy ends at {val[-1][0]:.1f} %, training accuracy at {train[-1][0]:.1f} %, a gap of "
        f"{gap:+.1f} points",
        spec(figure),
        [["epoch", "train %", "low", "high", "val %", "low", "high"], *numbers],
    )


def _gap(comparison: Comparison) -> list[Figure]:
    """Return the generalization gap of each arm: training minus validation accuracy, a point per seed."""
    gaps = [(arm.label, [100 * gap for gap in arm.tested.gaps]) for arm in comparison.arms if arm.tested.gaps]
    gaps = gaps[:MAX_POINTS]
    if not gaps:
        return []
    means = {label: statistics.fmean(values) for label, values in gaps}
    figure = go.Figure()
    figure.add_scatter(
        x=rounded(value for _, values in gaps for value in values),
        y=[wrapped(label) for label, values in gaps for _ in values],
        mode="markers",
        marker={"color": OTHER, "size": 6},
        name="one seed",
        hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
    )
    figure.add_scatter(
        x=rounded(means.values()),
        y=[wrapped(label) for label in means],
        mode="markers",
        marker={"color": VAL, "symbol": "line-ns-open", "size": 16, "line": {"width": 3}},
        name="mean over seeds",
        hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
    )
    one_row_each(figure, list(means), "training minus validation accuracy (points)")
    widest = max(means, key=lambda label: means[label])
    gap = Figure(
        "gap",
        "Training minus validation accuracy at the best epoch (points)",
        f"{widest} has the largest gap, {means[widest]:+.1f} points",
        spec(figure),
        [["arm", "gap"], *([label, f"{mean:+.2f}"] for label, mean in means.items())],
    )
    return [gap]


def _counted(texts: Sequence[str]) -> str:
    return ", ".join(f"{texts.count(text)} {text or 'not compared'}" for text in dict.fromkeys(texts))
