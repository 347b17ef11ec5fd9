"""The confusion matrix as a picture."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

MOST_NUMBERED = 20  # classes up to which each cell holds its count
DARK = 0.6  # share of a row from which a cell is so dark that its number is white


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """A PNG of the images of each class by what they were predicted as; a colour is a share of its row.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
        classes: Their names.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3 + 0.5 * len(classes), 12)
    figure = Figure(figsize=(side, side), layout="tight")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(classes) <= MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > DARK else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, pil_kwargs={"compress_level": 1})
    return content.getvalue()
