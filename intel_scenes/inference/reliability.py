"""Reliability diagram: accuracy by predicted probability, as numbers and as a figure."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binomtest

from intel_scenes.probabilities import Labels, Probabilities

NUM_BINS = 15  # as for the expected calibration error
PREDICTED, CALIBRATED = "#D55E00", "#0072B2"  # of the colorblind-safe palette of Okabe and Ito


@dataclass(frozen=True)
class Bin:
    """Images whose predicted class has a probability in one range.

    Attributes:
        low: Lower end of the range, included.
        high: Upper end of the range, excluded unless it is 1.
        num_images: Number of images in the range.
        confidence: Mean probability of the predicted class; None without images.
        accuracy: Share of correct predictions; None without images.
        interval: 95 % Wilson interval of the accuracy; None without images.
    """

    low: float
    high: float
    num_images: int
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None


def reliability(predicted: Probabilities, labels: Labels) -> tuple[Bin, ...]:
    """Return confidence and accuracy in bins of equal width (Guo et al. 2017).

    Args:
        predicted: (N, C) probabilities.
        labels: (N,) true classes.
    """
    edges, confidence, is_correct = np.linspace(0, 1, NUM_BINS + 1), predicted.max(1), predicted.argmax(1) == labels
    bin_of = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, NUM_BINS - 1)
    bins = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        in_bin = bin_of == number
        num_images, num_correct = int(in_bin.sum()), int(is_correct[in_bin].sum())
        if not num_images:
            bins.append(Bin(low, high, 0, None, None, None))
            continue
        ends = binomtest(num_correct, num_images).proportion_ci(method="wilson")
        interval = float(ends.low), float(ends.high)
        mean = float(confidence[in_bin].mean())
        bins.append(Bin(low, high, num_images, mean, num_correct / num_images, interval))
    return tuple(bins)


def draw_reliability(bins: tuple[Bin, ...], calibrated: tuple[Bin, ...] | None) -> bytes:
    """Return a PNG of accuracy by confidence, with intervals over images, above a histogram of the confidence.

    Args:
        bins: Bins of the probabilities as predicted.
        calibrated: Bins of the probabilities at the run's temperature, if it has one.
    """
    figure = Figure(figsize=(5, 5.6))
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    figure.subplots_adjust(left=0.14, right=0.95, bottom=0.1, top=0.94, hspace=0.08)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    edges = [bins[0].low, *(bin_.high for bin_ in bins)]
    for name, series, color in (
        ("as predicted", bins, PREDICTED),
        ("at the run's temperature", calibrated or (), CALIBRATED),
    ):
        filled = [bin_ for bin_ in series if bin_.num_images]
        for bin_ in filled:
            assert bin_.interval is not None
            axes.plot([bin_.confidence] * 2, bin_.interval, color=color, linewidth=1, alpha=0.5)
        if filled:
            x, y = [bin_.confidence for bin_ in filled], [bin_.accuracy for bin_ in filled]
            axes.plot(x, y, color=color, marker="o", markersize=4, label=name)
            counts.stairs([bin_.num_images for bin_ in series], edges, color=color)
    axes.set_title("reliability (95 % intervals over images)", fontsize=11)
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="lower right")
    counts.set_xlim(0, 1)
    counts.set_ylabel("images")
    counts.set_xlabel("probability of the predicted class")
    for panel in (axes, counts):
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    counts.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, pil_kwargs={"compress_level": 1})
    return content.getvalue()
