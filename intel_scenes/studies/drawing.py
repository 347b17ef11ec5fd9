"""What all figures of the page have in common."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

VALID, TRAIN, OTHER = "#0072B2", "#D55E00", "rgba(128,128,128,.8)"  # of Okabe and Ito, told apart by the colour blind
COLOURS = (VALID, TRAIN, "#009E73", "#B05C8B", "#A87400", "#3A8DBF")  # two darker, for contrast on white
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
GRID = "rgba(128,128,128,.25)"


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


def finish(figure: go.Figure, height: int, **layout: object) -> None:
    """Gives a figure the looks of the page; colours of text come from the page."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
        font={"size": 12},
        template="none",
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)


def spec(figure: go.Figure) -> dict[str, Any]:
    """Its data and layout as plain values."""
    whole: dict[str, Any] = figure.to_plotly_json()
    return {"data": whole["data"], "layout": whole["layout"]}


def rounded(values: Iterable[float], digits: int = 2) -> list[float | None]:
    """Short numbers, for a page holds many; null for what is not finite, which JSON does not know."""
    return [round(float(value), digits) if math.isfinite(value) else None for value in values]
