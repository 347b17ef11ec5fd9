"""How far the probability of a prediction can be believed: its reliability diagram, as numbers and as a picture."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binomtest

from intel_scenes.probabilities import Labels, Probabilities

NUM_BINS = 15  # as the calibration error has them
PREDICTED, CALIBRATED = "#D55E00", "#0072B2"  # Okabe and Ito's, told apart by all


@dataclass(frozen=True)
class Bin:
    """The images whose predicted class has a probability in one range.

    Attributes:
        low: End of the range, included.
        high: The other end, left out but for 1.
        num_images: In the range.
        confidence: Mean probability of the predicted class; None where there is no image.
        accuracy: Share of right predictions; None where there is no image.
        interval: 95 %, Wilson, of the accuracy; None where there is no image.
    """

    low: float
    high: float
    num_images: int
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None


def reliability(predicted: Probabilities, labels: Labels) -> tuple[Bin, ...]:
    """Confidence and accuracy in bins of equal width (Guo et al. 2017).

    Args:
        predicted: (N, C) probabilities.
        labels: (N,), the true classes.
    """
    edges, confidence, is_right = np.linspace(0, 1, NUM_BINS + 1), predicted.max(1), predicted.argmax(1) == labels
    place = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, NUM_BINS - 1)
    bins = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        chosen = place == number
        num_images, num_right = int(chosen.sum()), int(is_right[chosen].sum())
        if not num_images:
            bins.append(Bin(low, high, 0, None, None, None))
            continue
        ends = binomtest(num_right, num_images).proportion_ci(method="wilson")
        interval = float(ends.low), float(ends.high)
        mean = float(confidence[chosen].mean())
        bins.append(Bin(low, high, num_images, mean, num_right / num_images, interval))
    return tuple(bins)


def draw_reliability(bins: tuple[Bin, ...], calibrated: tuple[Bin, ...] | None) -> bytes:
    """A PNG of accuracy by confidence, with intervals over images, and below it how many images there are.

    Args:
        bins: Of the probabilities as predicted.
        calibrated: Of those at the run's temperature, where it has one.
    """
    figure = Figure(figsize=(5, 5.6))
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    figure.subplots_adjust(left=0.14, right=0.95, bottom=0.1, top=0.94, hspace=0.08)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for name, found, color in (
        ("as predicted", bins, PREDICTED),
        ("at the run's temperature", calibrated, CALIBRATED),
    ):
        for one in found or ():
            if one.interval is not None:
                axes.plot([one.confidence] * 2, one.interval, color=color, linewidth=1, alpha=0.5)
        there = [one for one in found or () if one.num_images]
        if there:
            where = [one.confidence for one in there]
            axes.plot(where, [one.accuracy for one in there], color=color, marker="o", markersize=4, label=name)
            edges = [bins[0].low, *(one.high for one in bins)]
            counts.stairs([one.num_images for one in found or ()], edges, color=color)
    axes.set_title("reliability: 95 % intervals over images", fontsize=11)
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="lower right")
    counts.set_xlim(0, 1)
    counts.set_ylabel("images")
    counts.set_xlabel("probability of the predicted class")
    for one in (axes, counts):
        one.grid(alpha=0.25)
        one.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    counts.xaxis.set_major_formatter(PercentFormatter(1.0))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, pil_kwargs={"compress_level": 1})
    return content.getvalue()
