"""Figures of accuracy against cost."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.render.plot import MAX_POINTS, OTHER, VAL, Figure, error_bars, finish, percent, rounded, spec

WIDTH, HEIGHT = 270, 250  # pixels of the plotting area on a phone, in which the labels have to fit
FONT, LETTER, LINE = 10, 5.6, 14  # pixels: font size, mean width of a letter, height of a line


@dataclass(frozen=True)
class Point:
    """An arm in a figure of accuracy against cost.

    Attributes:
        label: Label of the arm.
        cost: Cost of the chosen configuration in the unit of the figure.
        val_accuracy: Validation accuracy of the chosen configuration, a fraction.
        test_accuracy: Test accuracy of the configuration that verdicts rest on, a fraction.
        interval: 95 % interval of the test accuracy; twice the accuracy itself if it has no interval.
    """

    label: str
    cost: float
    val_accuracy: float
    test_accuracy: float
    interval: tuple[float, float]


def cost_figures(comparison: Comparison) -> list[Figure]:
    """Return test accuracy against minutes, on the device that most runs share, and against parameters."""
    devices = [str(run.summary.device) for run in comparison.runs]
    device = max(sorted(set(devices)), key=devices.count) if devices else ""
    timed = [arm for arm in comparison.arms if arm.chosen.devices == [device] and arm.chosen.mean("fit_seconds")]
    sized = [arm for arm in comparison.arms if arm.chosen.mean("parameters")]
    drawn = []
    if timed:
        drawn.append(_figure("minutes", f"training time on {device} (minutes)", timed, _minutes, comparison))
    if len({arm.chosen.mean("parameters") for arm in sized}) > 1:
        drawn.append(_figure("parameters", "parameters (millions)", sized, _millions, comparison))
    return drawn


def _minutes(configuration: Configuration) -> float:
    return (configuration.mean("fit_seconds") or 0.0) / 60


def _millions(configuration: Configuration) -> float:
    return (configuration.mean("parameters") or 0.0) / 1e6


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points with a higher validation accuracy than every cheaper one, cheapest first."""
    best, frontier_points = float("-inf"), []
    for point in sorted(points, key=lambda point: (point.cost, -point.val_accuracy, point.label)):
        if point.val_accuracy > best:
            frontier_points.append(point)
            best = point.val_accuracy
    return frontier_points


def _figure(
    name: str, unit: str, arms: Sequence[Arm], cost: Callable[[Configuration], float], comparison: Comparison
) -> Figure:
    points = []
    for arm in arms[:MAX_POINTS]:
        accuracy = arm.tested.test_accuracy
        interval = arm.tested.interval or (accuracy, accuracy)
        points.append(Point(arm.label, cost(arm.chosen), arm.chosen.val_accuracy, accuracy, interval))
    optimal = frontier(points)
    others = [point for point in points if point not in optimal]
    x_range = (0.0, 1.06 * max(point.cost for point in points))
    low, high = min(point.interval[0] for point in points), max(point.interval[1] for point in points)
    pad = max(0.1 * (high - low), 0.002)
    y_range = (100 * (low - pad), 100 * (high + pad))
    labels = [(point.label, point.cost, 100 * point.test_accuracy) for point in optimal[::-1]]  # the best one first
    places = text_places(labels, x_range, y_range)[::-1]
    figure = go.Figure()
    for part, title, colour, symbol in (
        (others, "other arms", OTHER, "circle-open"),
        (optimal, "frontier", VAL, "circle"),
    ):
        accuracies = [100 * point.test_accuracy for point in part]
        ends = [(100 * point.interval[0], 100 * point.interval[1]) for point in part]
        is_optimal = part is optimal
        figure.add_scatter(
            x=rounded((point.cost for point in part), 4),
            y=rounded(accuracies),
            error_y=error_bars(accuracies, ends, colour, width=3) if is_optimal else None,
            mode="lines+markers+text" if is_optimal else "markers",
            line={"color": colour, "dash": "dot", "width": 1},
            text=[html.escape(point.label) if place else "" for point, place in zip(part, places, strict=True)]
            if is_optimal
            else None,
            textposition=[place or "middle right" for place in places] if is_optimal else None,
            textfont={"size": FONT},
            marker={"size": 10, "color": colour, "symbol": symbol},
            name=title,
            customdata=[
                [html.escape(point.label), f"{percent(point.val_accuracy, 1)} %", f"{low:.1f} to {high:.1f}"]
                for point, (low, high) in zip(part, ends, strict=True)
            ],
            hovertemplate="%{customdata[0]}: test %{y:.1f} % (%{customdata[2]}), validation %{customdata[1]}, "
            "%{x:.3g}<extra></extra>",
        )
    finish(
        figure, 360, unit, f"{comparison.on_test} (%)", xaxis_range=rounded(x_range, 4), yaxis_range=rounded(y_range)
    )
    head = ["arm", unit, "val %", "test %", "95 % CI", "on the frontier"]
    rows = [
        [
            *(point.label, f"{point.cost:.3g}", percent(point.val_accuracy), percent(point.test_accuracy)),
            *(f"{percent(point.interval[0])} to {percent(point.interval[1])}", "yes" if point in optimal else ""),
        ]
        for point in sorted(points, key=lambda point: (point.cost, -point.val_accuracy, point.label))
    ]
    return Figure(
        name,
        f"{comparison.on_test.capitalize()} against {unit}; frontier by {comparison.on_val}",
        f"No cheaper arm has a higher {comparison.on_val} than {', '.join(point.label for point in optimal)}",
        spec(figure),
        [head, *rows],
    )


def text_places(
    labels: Sequence[tuple[str, float, float]], x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[str | None]:
    """Return Plotly's text position of each label; None for one that would overlap another or leave the figure.

    Args:
        labels: The text, x and y of each point.
        x_range: Range of the horizontal axis.
        y_range: Range of the vertical axis.
    """
    taken: list[tuple[float, float, float, float]] = []
    at = []
    for _, x, y in labels:
        left = WIDTH * (x - x_range[0]) / (x_range[1] - x_range[0])
        up = HEIGHT * (y - y_range[0]) / (y_range[1] - y_range[0])
        at.append((left, up))
        taken.append((left - 5, up - 5, left + 5, up + 5))
    places: list[str | None] = []
    for (label, _, _), (left, up) in zip(labels, at, strict=True):
        width = LETTER * len(label)
        boxes = {
            "middle right": (left + 8, up - LINE / 2, left + 8 + width, up + LINE / 2),
            "middle left": (left - 8 - width, up - LINE / 2, left - 8, up + LINE / 2),
        }
        place = next((name for name, box in boxes.items() if _is_free(box, taken)), None)
        places.append(place)
        if place:
            taken.append(boxes[place])
    return places


def _is_free(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, low, right, high = box
    return (
        left >= 0
        and right <= WIDTH
        and all(right <= other[0] or other[2] <= left or high <= other[1] or other[3] <= low for other in taken)
    )
