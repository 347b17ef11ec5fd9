"""CSV files of a comparison: accuracies are fractions, and a cell is empty if its value is unknown."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intel_scenes import files
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.load import Run
from intel_scenes.studies.render.learning_curves import curve_columns, curve_rows
from intel_scenes.studies.statistics.estimates import Estimate

RESULTS, PAIRWISE, EFFECTS, INTERACTIONS = "results.csv", "pairwise.csv", "effects.csv", "interactions.csv"
PAIRWISE_COLUMNS = (
    *("a", "b", "metric", "difference", "low", "high", "low_holm", "high_holm", "p_value", "p_holm", "p_better"),
    *("num_seeds_a", "num_seeds_b", "paired", "verdict", "low_bonferroni", "high_bonferroni"),
    *("standard_error", "degrees_of_freedom"),
)
LEARNING_CURVE = "learning_curve.csv"
EFFECTS_COLUMNS = (
    *("factor", "level", "against", "within", "metric", "difference", "low", "high", "p", "p_holm", "verdict"),
    *("num_cells", "num_runs", "low_holm", "high_holm"),
)
INTERACTIONS_COLUMNS = ("factors", "metric", "statistic", "df", "p", "p_holm")


def write_all(comparison: Comparison) -> None:
    """Write the CSV files of a comparison into its folder, and remove those that it has no rows for."""
    write_results(comparison.folder, comparison.study.all_runs)
    files.write_csv(comparison.folder / PAIRWISE, PAIRWISE_COLUMNS, pairwise(comparison))
    for name, columns, rows in (
        (EFFECTS, EFFECTS_COLUMNS, effects(comparison)),
        (INTERACTIONS, INTERACTIONS_COLUMNS, interactions(comparison)),
        (LEARNING_CURVE, curve_columns(comparison), curve_rows(comparison)),
    ):
        if rows:
            files.write_csv(comparison.folder / name, columns, [list(row.values()) for row in rows])
        else:
            (comparison.folder / name).unlink(missing_ok=True)


def write_results(folder: Path, runs: Sequence[Run]) -> None:
    """Write `results.csv`: one row per run with its overrides, the flattened keys of its summary and its folder."""
    files.write_csv(folder / RESULTS, *results(runs))


def results(runs: Sequence[Run]) -> tuple[list[str], list[list[object]]]:
    """Return the columns and the rows of `results.csv`."""
    typed = sorted({key for run in runs for key in run.overrides})
    flat = [files.flatten(asdict(run.summary)) for run in runs]
    keys = list(dict.fromkeys(key for summary in flat for key in summary))
    rows = [
        [*(run.overrides.get(key) for key in typed), *(_cell(summary.get(key)) for key in keys), run.name]
        for run, summary in zip(runs, flat, strict=True)
    ]
    return [*(f"override.{key}" for key in typed), *keys, "run"], rows


def pairwise(comparison: Comparison) -> list[list[object]]:
    """Return the rows of `pairwise.csv`: all pairs on test, then each arm against the baseline on validation."""
    rows: list[list[object]] = []
    for pair in comparison.pairs:
        low, high = pair.estimate.interval() if pair.estimate else (None, None)
        holm = pair.holm_interval() or (None, None)
        simultaneous = pair.bonferroni_interval() or (None, None)
        p_values = (pair.verdict.p_value, pair.verdict.p_holm) if pair.verdict else (None, None)
        rows.append(
            [
                *(pair.a, pair.b, comparison.primary, pair.difference, low, high, *holm, *p_values, pair.p_better),
                *(*pair.num_seeds, pair.is_paired, pair.text, *simultaneous, *_standard_error(pair.estimate)),
            ]
        )
    for one in comparison.on_validation:
        for metric, estimate in ((f"val_{comparison.metric}", one.accuracy), ("val_loss_calibrated", one.loss)):
            low, high = estimate.interval()
            unadjusted = [
                one.label,
                comparison.baseline,
                metric,
                estimate.value,
                low,
                high,
                None,
                None,
                estimate.p_value(),
            ]
            rows.append(
                [
                    *(*unadjusted, None, None, *estimate.num_seeds, estimate.is_paired, None, None, None),
                    *_standard_error(estimate),
                ]
            )
    return rows


def _standard_error(estimate: Estimate | None) -> tuple[float, float] | tuple[None, None]:
    """Return the standard error of a difference and the degrees of freedom of its t distribution."""
    return (math.sqrt(estimate.variance), estimate.degrees_of_freedom) if estimate else (None, None)


def effects(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of `effects.csv`: level differences, primary metric first, main effects before simple effects."""
    return [
        dict(
            zip(
                EFFECTS_COLUMNS,
                (
                    *(one.factor, one.level, one.against, one.within, metric, one.difference, *one.interval()),
                    *(one.p, one.p_holm, one.verdict, one.num_cells, one.num_runs, *one.holm_interval()),
                ),
                strict=True,
            )
        )
        for metric, of_metric in comparison.effects.items()
        for one in [*of_metric.main, *of_metric.simple]
    ]


def interactions(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of `interactions.csv`; `df` holds the degrees of freedom of numerator and denominator."""
    return [
        dict(
            zip(
                INTERACTIONS_COLUMNS,
                (
                    " x ".join(one.factors),
                    metric,
                    one.statistic,
                    f"{one.df:.6g}, {one.df_denominator:.6g}",
                    one.p,
                    one.p_holm,
                ),
                strict=True,
            )
        )
        for metric, of_metric in comparison.effects.items()
        for one in of_metric.interactions
    ]


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\n", "\\n")  # a traceback has line breaks, and a row must stay on one line
    return json.dumps(value) if isinstance(value, list | tuple) else value
