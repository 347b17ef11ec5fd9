"""Figures of a comparison, each with a sentence that says what it shows and its numbers as a table."""

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


def figures(found: Comparison) -> dict[str, list[Figure]]:
    """The figures by section of the page; a section without any is left out."""
    sections = {
        "learning": curve_figures(found),
        "means": marginal_figures(found),
        "interactions": interaction_figures(found),
        "response": response_figures(found),
        "differences": _forest(found),
        "cost": cost_figures(found),
        "curves": _curves(found),
        "gap": _gap(found),
        "trials": [trials_figure(found)] if any(len(arm.configurations) > 1 for arm in found.arms) else [],
    }
    return {section: made for section, made in sections.items() if made}


COLOUR_OF = {BETTER: "#009E73", WORSE: TRAIN, EQUAL: VAL}
SYMBOL_OF = {BETTER: "triangle-right", WORSE: "triangle-left", EQUAL: "diamond"}


def _forest(found: Comparison) -> list[Figure]:
    """Differences from the reference with their intervals and verdicts."""
    pairs = [pair for pair in found.to_reference() if pair.estimate is not None][:MAX_POINTS]
    if not pairs:
        return []
    figure = go.Figure()
    figure.add_vrect(x0=-100 * found.rope, x1=100 * found.rope, fillcolor="rgba(128,128,128,.18)", line_width=0)
    figure.add_vline(x=0, line_color=OTHER)
    differences = [100 * pair.difference for pair in pairs]
    simultaneous = [_points(pair, pair.bonferroni_interval()) for pair in pairs]
    figure.add_scatter(  # drawn first: the thin lines lie under the others
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
    one_row_each(figure, labels, f"difference in {found.on_test} (points)", xaxis_zeroline=False, showlegend=True)
    head = ["arm", "difference", "low (Holm)", "high (Holm)", "low (Bonferroni)", "high (Bonferroni)", "verdict"]
    rows = [
        [
            pair.a,
            *(f"{end:+.2f}" for end in (value, *_points(pair, pair.holm_interval()), *thin)),
            pair.text,
        ]
        for pair, value, thin in zip(pairs, differences, simultaneous, strict=True)
    ]
    more = len(found.arms) - 1 - len(pairs)
    made = Figure(
        "differences",
        f"Difference in {found.on_test} from {found.reference} (points)"
        + (f": the first {len(pairs)} arms on validation" if more > 0 and len(pairs) == MAX_POINTS else ""),
        f"Of {len(pairs)} arms, {_counted([pair.text for pair in pairs])}, compared with {found.reference}",
        spec(figure),
        [head, *rows],
    )
    return [made]


def _points(pair: Pair, interval: tuple[float, float] | None) -> tuple[float, float]:
    """An interval in points; that of the pair alone where it is in no family."""
    assert pair.estimate is not None
    low, high = interval or pair.estimate.interval()
    return 100 * low, 100 * high


Band = list[tuple[float, float, float]]  # mean, lowest and highest over seeds, at each epoch


def _curves(found: Comparison) -> list[Figure]:
    """Train and validation accuracy by epoch (from 1), one panel for each arm, all on one scale."""
    panels = [(arm.label, _by_epoch(arm.tested)) for arm in found.arms[:MAX_POINTS]]
    panels = [(label, columns) for label, columns in panels if columns]
    values = [value for _, columns in panels for rows in columns.values() for row in rows for value in row]
    if not values:
        return []
    scale = [max(0.0, min(values) - 3), min(101.0, max(values) + 3)]
    return [_panel(number, label, columns, scale) for number, (label, columns) in enumerate(panels)]


def _by_epoch(configuration: Configuration) -> dict[str, Band]:
    """Mean, lowest and highest over seeds at each epoch, in percent."""
    histories = [history for run in configuration.runs if (history := History.read(run.folder)).epochs]
    result = {}
    for column in ("val_accuracy", "train_eval_accuracy") if histories else ():
        by_epoch = zip(*([getattr(epoch, column) for epoch in one.epochs] for one in histories), strict=False)
        result[column] = [(100 * statistics.fmean(values), 100 * min(values), 100 * max(values)) for values in by_epoch]
    return result


def _panel(number: int, label: str, columns: dict[str, Band], scale: list[float]) -> Figure:
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
        f"curves-{number}",
        label,
        f"{label}: validation accuracy ends at {val[-1][0]:.1f} %, train at {train[-1][0]:.1f} %, a gap of {gap:+.1f}",
        spec(figure),
        [["epoch", "train %", "low", "high", "validation %", "low", "high"], *numbers],
    )


def _gap(found: Comparison) -> list[Figure]:
    """Train less validation accuracy, each seed a point."""
    gaps = [(arm.label, [100 * gap for gap in arm.tested.gaps]) for arm in found.arms if arm.tested.gaps]
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
    one_row_each(figure, list(means), "train less validation accuracy (points)")
    widest = max(means, key=lambda label: means[label])
    made = Figure(
        "gap",
        "Train less validation accuracy at the best epoch (points)",
        f"The widest gap is that of {widest}, {means[widest]:+.1f} points",
        spec(figure),
        [["arm", "gap"], *([label, f"{mean:+.2f}"] for label, mean in means.items())],
    )
    return [made]


def _counted(texts: Sequence[str]) -> str:
    return ", ".join(f"{texts.count(text)} {text or 'not compared'}" for text in dict.fromkeys(texts))
