"""Parts that all figures of the page share: colours, layout, error bars, labels."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

VAL, TRAIN, OTHER = (
    "#0072B2",
    "#D55E00",
    "rgba(128,128,128,.8)",
)  # from Okabe and Ito, distinguishable with colour blindness
COLOURS = (
    VAL,
    TRAIN,
    "#009E73",
    "#B05C8B",
    "#A87400",
    "#3A8DBF",
)  # the last three are darker than theirs, for contrast on white
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
GRID = "rgba(128,128,128,.25)"
MAX_POINTS = 40  # arms in one figure
MAX_LINE = 20  # characters of a line of an axis label


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        name: Name of its HTML element and of the file that it is saved as.
        title: Title above it, as plain text.
        description: Sentence that says what it shows, read by screen readers.
        spec: Data and layout for plotly.js, as plain values.
        numbers: Table of its numbers, with a header row.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    numbers: list[list[str]]


def finish(figure: go.Figure, height: int, x_title: str, y_title: str, **layout: object) -> None:
    """Apply the layout that all figures share; the page sets the colours of text.

    Args:
        figure: Figure that is changed in place.
        height: Height in pixels.
        x_title: Title of the horizontal axis, with its unit; empty if the tick labels need none.
        y_title: Title of the vertical axis.
        layout: Further layout attributes of Plotly.
    """
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True}
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
        },  # below the plot it would overlap the title of the axis
        font={"size": 12},
        template="none",
        xaxis=axis | {"title": {"text": x_title, "standoff": 8}},
        yaxis=axis | {"title": {"text": y_title, "standoff": 8}},
    )
    figure.update_layout(**layout)


def one_row_each(figure: go.Figure, labels: Sequence[str], x_title: str, **layout: object) -> None:
    """Lay out a figure that has one row per label, the first at the top."""
    names = list(dict.fromkeys(wrapped(label) for label in reversed(labels)))
    num_lines = max(name.count("<br>") + 1 for name in names)
    height = 110 + max(30, 16 * num_lines + 4) * len(names)
    finish(figure, height, x_title, "", **layout)
    rows = {"type": "category", "categoryorder": "array", "categoryarray": names, "range": [-0.7, len(names) - 0.3]}
    figure.update_yaxes(rows)


def spec(figure: go.Figure) -> dict[str, Any]:
    """Return the data and layout of a figure as plain values."""
    whole: dict[str, Any] = figure.to_plotly_json()
    return {"data": whole["data"], "layout": whole["layout"]}


def rounded(values: Iterable[float], digits: int = 2) -> list[float | None]:
    """Round numbers to keep the page small; numbers that are not finite become None, since JSON has none of them."""
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
    """Shade the area between two lines, in the legend group of their line."""
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
    """Return Plotly's error bars from the low to the high end of each interval."""
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
    """Return the escaped label of an arm for an axis; long labels are broken after slashes to leave room on a phone."""
    lines = [""]
    for part in label.replace("/", "/\n").splitlines():
        if lines[-1] and len(lines[-1] + part) > MAX_LINE:
            lines.append("")
        lines[-1] += part
    return "<br>".join(html.escape(line) for line in lines)


def in_order(levels: Iterable[str]) -> list[str]:
    """Return the levels of a factor, each once: numbers by size, names in the given order."""
    unique = list(dict.fromkeys(levels))
    return sorted(unique, key=float) if are_numbers(unique) else unique


def are_numbers(levels: Iterable[str]) -> bool:
    """Return whether all levels are finite numbers, so that their points may be joined."""
    try:
        return all(math.isfinite(float(level)) for level in levels)
    except ValueError:
        return False


def percent(value: float, digits: int = 2) -> str:
    """Return a fraction in percent, without the percent sign."""
    return f"{100 * value:.{digits}f}"
