"""Training curves of one run."""

import io

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from intel_scenes.errors import percentage
from intel_scenes.record import BALANCED, History

TRAIN, VAL = "#D55E00", "#0072B2"  # Okabe and Ito, distinguishable with color vision deficiency


def plot_curves(history: History) -> bytes:
    """Plot training and validation accuracy and loss by epoch, counted from 1; return the PNG."""
    figure = Figure(figsize=(10, 4))  # margins are fixed, because fitting them takes longer than plotting
    accuracy, loss = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.13, top=0.9, wspace=0.18)
    numbers = [row.epoch + 1 for row in history.epochs]
    best, is_balanced = history.best, history.primary_metric == BALANCED
    val = getattr(best, f"val_{history.primary_metric}")
    for axes, name, lines in (
        (
            accuracy,
            "accuracy",
            (
                ("train (augmented, running average)", "train_accuracy", TRAIN, ":"),
                ("train (evaluation mode)", "train_eval_accuracy", TRAIN, "-"),
                ("validation", "val_accuracy", VAL, "-"),
                *([("validation, balanced", "val_balanced_accuracy", VAL, "--")] if is_balanced else []),
            ),
        ),
        (
            loss,
            "loss",
            (("train (augmented, running average)", "train_loss", TRAIN, ":"), ("validation", "val_loss", VAL, "-")),
        ),
    ):
        for label, column, color, style in lines:
            axes.plot(
                numbers, [getattr(row, column) for row in history.epochs], style, color=color, marker=".", label=label
            )
        axes.set_xlabel("epoch")
        axes.set_title(name, y=1.0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))
    accuracy.plot(best.epoch + 1, val, "o", color=VAL, fillstyle="none", markersize=10)
    gap = 100 * (best.train_eval_accuracy - best.val_accuracy)
    title = f"validation accuracy {percentage(val)} at epoch {best.epoch + 1}"
    accuracy.set_title(f"balanced {title}" if is_balanced else f"{title}, gap to train {gap:+.1f} points", y=1.0)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, pil_kwargs={"compress_level": 1})
    return content.getvalue()
