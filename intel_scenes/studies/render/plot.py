"""What all figures of the page have in common."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

VAL, TRAIN, OTHER = "#0072B2", "#D55E00", "rgba(128,128,128,.8)"  # of Okabe and Ito, told apart by the colour blind
COLOURS = (VAL, TRAIN, "#009E73", "#B05C8B", "#A87400", "#3A8DBF")  # two darker, for contrast on white
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
GRID = "rgba(128,128,128,.25)"
MAX_POINTS = 40  # of a figure with one row for each arm
MAX_LINE = 20  # characters of a label's line on an axis


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
        name: Of its element and of a file that it is saved as.
        title: Above it, as plain text.
        says: What it shows, for those who cannot see it.
        spec: Plotly's data and layout, as plain values.
        numbers: Its numbers, with a row of names.
    """

    name: str
    title: str
    says: str
    spec: dict[str, Any]
    numbers: list[list[str]]


def finish(figure: go.Figure, height: int, x_title: str, y_title: str, **layout: object) -> None:
    """Gives a figure the looks of the page; colours of text come from the page.

    Args:
        figure: To be changed.
        height: In pixels.
        x_title: Of the horizontal axis, with its unit; empty where the labels say it.
        y_title: Of the vertical axis.
        layout: Plotly's, further.
    """
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True}
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},  # below, it runs into the axis' title
        font={"size": 12},
        template="none",
        xaxis=axis | {"title": {"text": x_title, "standoff": 8}},
        yaxis=axis | {"title": {"text": y_title, "standoff": 8}},
    )
    figure.update_layout(**layout)


def one_row_each(figure: go.Figure, labels: Sequence[str], x_title: str, **layout: object) -> None:
    """Gives a figure with a row for each label, the first at the top, its height, axes and looks."""
    names = list(dict.fromkeys(wrapped(label) for label in reversed(labels)))
    height = 110 + (36 if any("<br>" in name for name in names) else 30) * len(names)
    finish(figure, height, x_title, "", **layout)
    rows = {"type": "category", "categoryorder": "array", "categoryarray": names, "range": [-0.7, len(names) - 0.3]}
    figure.update_yaxes(rows)


def spec(figure: go.Figure) -> dict[str, Any]:
    """Its data and layout as plain values."""
    whole: dict[str, Any] = figure.to_plotly_json()
    return {"data": whole["data"], "layout": whole["layout"]}


def rounded(values: Iterable[float], digits: int = 2) -> list[float | None]:
    """Short numbers, for a page holds many; null for what is not finite, which JSON does not know."""
    return [round(float(value), digits) if math.isfinite(value) else None for value in values]


def add_band(
    figure: go.Figure,
    places: Sequence[Any],
    low: Sequence[float],
    high: Sequence[float],
    *,
    colour: str,
    opacity: float,
    group: str,
) -> None:
    """Shades what lies between two lines, as a part of an entry of the legend."""
    figure.add_scatter(
        x=[*places, *reversed(places)],
        y=rounded([*high, *reversed(low)]),
        fill="toself",
        fillcolor=colour,
        opacity=opacity,
        line_width=0,
        mode="lines",
        hoverinfo="skip",
        legendgroup=group,
        showlegend=False,
    )


def error_bars(
    values: Sequence[float], intervals: Sequence[tuple[float, float]], colour: str, thickness: float = 2, width: int = 4
) -> dict[str, Any]:
    """Plotly's error bars that reach from `low` to `high` of each interval."""
    return {
        "type": "data",
        "symmetric": False,
        "array": rounded(high - value for value, (_, high) in zip(values, intervals, strict=True)),
        "arrayminus": rounded(value - low for value, (low, _) in zip(values, intervals, strict=True)),
        "color": colour,
        "thickness": thickness,
        "width": width,
    }


def wrapped(label: str) -> str:
    """A label of an arm on an axis, escaped; a long one in lines, broken after a slash, to leave room on a phone."""
    lines = [""]
    for part in label.replace("/", "/\n").splitlines():
        if lines[-1] and len(lines[-1] + part) > MAX_LINE:
            lines.append("")
        lines[-1] += part
    return "<br>".join(html.escape(line) for line in lines)


def in_order(levels: Iterable[str]) -> list[str]:
    """Levels of a factor: numbers by size, names as they come."""
    known = list(dict.fromkeys(levels))
    return sorted(known, key=float) if are_numbers(known) else known


def are_numbers(levels: Iterable[str]) -> bool:
    """Whether levels have an order, so that points may be joined."""
    try:
        return all(math.isfinite(float(level)) for level in levels)
    except ValueError:
        return False


def percent(value: float, digits: int = 2) -> str:
    """A fraction in percent, without its sign."""
    return f"{100 * value:.{digits}f}"
