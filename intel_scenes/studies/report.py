"""What the runs of a study show: `results.csv`, and a table for the terminal."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from intel_scenes import record
from intel_scenes.studies.collect import Run, varying

RESULTS = "results.csv"
Summary = dict[str, Any]

COLUMNS: tuple[tuple[str, Callable[[Summary], float], float, str], ...] = (
    ("valid %", lambda summary: summary["val_accuracy"], 100, ".1f"),
    ("test %", lambda summary: summary["test_accuracy"], 100, ".1f"),
    ("gap", lambda summary: summary["train_accuracy"] - summary["val_accuracy"], 100, "+.1f"),
    ("minutes", lambda summary: summary["fit_seconds"], 1 / 60, ".1f"),
)


def write_results(folder: Path, runs: Sequence[Run]) -> None:
    """Writes one row for each run: what was typed as `override.*`, the flattened keys of its summary, its folder."""
    typed = sorted({key for run in runs for key in run.overrides})
    flat = [record.flatten(run.summary) for run in runs]
    keys = list(dict.fromkeys(key for summary in flat for key in summary))
    rows = [
        [*(run.overrides.get(key) for key in typed), *(_cell(summary.get(key)) for key in keys), run.name]
        for run, summary in zip(runs, flat, strict=True)
    ]
    record.write_csv(folder / RESULTS, [*(f"override.{key}" for key in typed), *keys, "run"], rows)


def table(runs: Sequence[Run]) -> str:
    """Completed runs by configuration, best validation accuracy first: mean and, over seeds, standard deviation."""
    completed = [run for run in runs if run.is_completed]
    factors = [key for key in varying(completed) if key != "seed"]
    groups: dict[str, list[Run]] = {}
    for run in completed:
        groups.setdefault(run.summary["configuration_digest"], []).append(run)
    ordered = sorted(groups.values(), key=lambda group: -statistics.fmean(run.summary["val_accuracy"] for run in group))
    lines = [[*factors, "seeds", *(name for name, *_ in COLUMNS)]]
    for group in ordered:
        values = [group[0].overrides.get(key, "") for key in factors]
        cells = [_over_seeds(group, value, factor, form) for _, value, factor, form in COLUMNS]
        lines.append([*values, str(len(group)), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def choices(runs: Sequence[Run], tuned: Sequence[str]) -> list[str]:
    """For each arm the values of its tuned factors that validation chose, and whether they lie at an edge of the grid.

    An arm is what runs have in common beside the tuned factors and the seed.
    """
    completed = [run for run in runs if run.is_completed]
    factors = [key for key in varying(completed) if key not in ("seed", *tuned)]
    arms: dict[tuple[str, ...], list[Run]] = {}
    for run in completed:
        arms.setdefault(tuple(f"{key}={run.overrides.get(key, '')}" for key in factors), []).append(run)
    return [_choice(", ".join(arm), members, tuned) for arm, members in sorted(arms.items())]


def several_versions(runs: Sequence[Run]) -> str:
    """What the completed runs were made with, where that differs: it may explain a difference between them."""
    made_with = [
        {"commit": run.summary["git_commit"], **(run.summary["versions"] or {})} for run in runs if run.is_completed
    ]
    found = {
        key: sorted({str(one.get(key)) for one in made_with}) for key in dict.fromkeys(k for o in made_with for k in o)
    }
    return "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if len(values) > 1)


def _choice(arm: str, runs: Sequence[Run], tuned: Sequence[str]) -> str:
    points: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        point = tuple(run.overrides.get(key, "") for key in tuned)
        points.setdefault(point, []).append(run.summary["val_accuracy"])
    best = max(points, key=lambda point: statistics.fmean(points[point]))
    chosen = ", ".join(f"{key}={value}" for key, value in zip(tuned, best, strict=True))
    text = f"{arm or 'all'}: {chosen} of {len(points)}, valid {statistics.fmean(points[best]):.1%}"
    grids = [
        sorted({float(point[index]) for point in points if _is_number(point[index])}) for index in range(len(tuned))
    ]
    edges = [
        f"{key}={value}"
        for key, value, grid in zip(tuned, best, grids, strict=True)
        if len(grid) > 1 and _is_number(value) and float(value) in (grid[0], grid[-1])
    ]
    return text + (f"; {', '.join(edges)} lies at the edge of the grid: widen it" if edges else "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _over_seeds(group: Sequence[Run], value: Callable[[Summary], float], factor: float, form: str) -> str:
    values = [value(run.summary) * factor for run in group]
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, list) else value
