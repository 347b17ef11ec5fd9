"""Pictures of the results: their colors, their style, and how they are written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from intel_scenes import files

# Okabe and Ito, distinguishable with color vision deficiency.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
WIDTH = 7.0  # inches, shown at about 700 pixels: a font of 9 points is 12 pixels high
DPI = 200


def figure_of(height: float) -> Figure:
    """Return a figure as wide as a page.

    Args:
        height: Height in inches.
    """
    return Figure(figsize=(WIDTH, height), layout="constrained")


def style(axes: Axes, title: str, x: str, y: str) -> None:
    """Label a panel and remove what carries no information."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def log_ticks(axis: Axis, values: Sequence[float]) -> None:
    """Label a logarithmic axis, which may span less than a decade, with plain numbers at these values."""
    axis.set_major_locator(FixedLocator(sorted(set(values))))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def even_ticks(low: float, high: float, num: int = 4) -> list[float]:
    """Return values between two positive numbers at nearly equal ratios, of two digits each."""
    return [float(f"{value:.2g}") for value in np.geomspace(low, high, num)]


def three_digits(value: float) -> str:
    """Return a number with three digits, without an exponent below a million."""
    return f"{float(f'{value:.3g}'):g}"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    figure.draw_without_rendering()  # the layout changes the ticks, whose labels change the layout
    with rc_context({"savefig.dpi": DPI}):
        files.write_whole(path, lambda file: figure.savefig(file, format="png"))
