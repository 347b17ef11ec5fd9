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

Row = dict[str, Any]  # by column, in the order of the columns


def write_all(comparison: Comparison) -> None:
    """Write the CSV files of a comparison into its folder, and remove those that it has no rows for."""
    write_results(comparison.folder, comparison.study.all_runs)
    pairs = [list(row.values()) for row in pairwise(comparison)]
    files.write_csv(comparison.folder / PAIRWISE, PAIRWISE_COLUMNS, pairs)
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


def pairwise(comparison: Comparison) -> list[Row]:
    """Return the rows of `pairwise.csv`: all pairs on test, then each arm against the baseline on validation."""
    rows: list[Row] = []
    for pair in comparison.pairs:
        row = _difference(pair.a, pair.b, comparison.primary, pair.estimate)
        row |= {
            "difference": pair.difference,
            "paired": pair.is_paired,
            "verdict": pair.text,
            "p_better": pair.p_better,
        }
        row |= _pair("num_seeds_a", "num_seeds_b", pair.num_seeds)
        row |= _pair("low_holm", "high_holm", pair.holm_interval())
        row |= _pair("low_bonferroni", "high_bonferroni", pair.bonferroni_interval())
        p_values = (pair.verdict.p_value, pair.verdict.p_holm) if pair.verdict else None
        rows.append(row | _pair("p_value", "p_holm", p_values))
    for arm in comparison.on_validation:
        for metric, estimate in ((f"val_{comparison.metric}", arm.accuracy), ("val_loss_calibrated", arm.loss)):
            row = _difference(arm.label, comparison.baseline, metric, estimate)
            row |= {"difference": estimate.value, "p_value": estimate.p_value(), "paired": estimate.is_paired}
            rows.append(row | _pair("num_seeds_a", "num_seeds_b", estimate.num_seeds))
    return [{column: row.get(column) for column in PAIRWISE_COLUMNS} for row in rows]


def _difference(first: str, second: str | None, metric: str, estimate: Estimate | None) -> Row:
    """Return names, interval, standard error, and the degrees of freedom of the t distribution."""
    precision = (math.sqrt(estimate.variance), estimate.degrees_of_freedom) if estimate else None
    return (
        {"a": first, "b": second, "metric": metric}
        | _pair("low", "high", estimate.interval() if estimate else None)
        | _pair("standard_error", "degrees_of_freedom", precision)
    )


def _pair(first: str, second: str, values: Sequence[float] | None) -> Row:
    return dict(zip((first, second), values or (None, None), strict=True))


def effects(comparison: Comparison) -> list[Row]:
    """Return the rows of `effects.csv`: level differences, primary metric first, main effects before simple effects."""
    rows: list[Row] = []
    for metric, of_metric in comparison.effects.items():
        for effect in [*of_metric.main, *of_metric.simple]:
            row = vars(effect) | {"metric": metric, "num_cells": effect.num_cells}
            row |= _pair("low", "high", effect.interval()) | _pair("low_holm", "high_holm", effect.holm_interval())
            rows.append({column: row[column] for column in EFFECTS_COLUMNS})
    return rows


def interactions(comparison: Comparison) -> list[Row]:
    """Return the rows of `interactions.csv`; `df` holds the degrees of freedom of numerator and denominator."""
    return [
        {
            "factors": " x ".join(interaction.factors),
            "metric": metric,
            "statistic": interaction.statistic,
            "df": f"{interaction.df:.6g}, {interaction.df_denominator:.6g}",
            "p": interaction.p,
            "p_holm": interaction.p_holm,
        }
        for metric, of_metric in comparison.effects.items()
        for interaction in of_metric.interactions
    ]


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\n", "\\n")  # a traceback has line breaks, and a row must stay on one line
    return json.dumps(value) if isinstance(value, list | tuple) else value
