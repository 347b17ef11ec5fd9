"""Hint for a new run that differs from a complete one in its number of epochs only."""

import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from intel_scenes import keys, record
from intel_scenes.digests import is_neutral
from intel_scenes.record import Status, Summary
from intel_scenes.training.claim import Place


def hint_of_other_epochs(place: Place, overrides: Iterable[str], summary: Summary) -> str | None:
    """Return how to start from the weights of a complete run that was trained for another number of epochs.

    Learning-rate schedules depend on the number of epochs, so a run of ten epochs is not a run of five that is resumed.

    Args:
        place: Folder of the new run, beside which other runs are looked for.
        overrides: Overrides of the new run.
        summary: Summary of the new run before its first step.

    Returns:
        One sentence; None if the run is not new or part of a sweep, or if no other run differs in its epochs only.
    """
    if place.siblings is not None or Summary.peek(place.folder) is not None:
        return None
    wanted, others = _without_epochs(overrides), []
    for path in sorted(place.folder.parent.glob(f"*/{record.OVERRIDES}")):
        if path.parent == place.folder or _without_epochs(_typed(path)) != wanted:
            continue
        other = Summary.peek(path.parent)
        if other is None or other.status is not Status.COMPLETED:
            continue
        # The images may differ, because data.root is not among the overrides that change a result.
        if other.epochs not in (None, summary.epochs) and other.data_fingerprint == summary.data_fingerprint:
            others.append((other.epochs, os.path.relpath(path.parent)))
    if not others:
        return None
    number, folder = max(others)
    return (
        f"epochs={summary.epochs} is a new run, because schedules depend on the number of epochs; {folder} differs "
        f"only in epochs={number} and is kept; "
        f"to start from its weights, add \"model.weights='{folder}/{record.BEST}'\""
    )


def _typed(path: Path) -> list[str]:
    try:
        overrides = yaml.load(path.read_text(), Loader=keys.LOADER)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []
    return [text for text in overrides if isinstance(text, str)] if isinstance(overrides, list) else []


def _without_epochs(overrides: Iterable[str]) -> frozenset[str]:
    """Return the overrides that change a result, without the number of epochs and in any order."""
    keyed = [(text.lstrip("+~").partition("=")[0], text) for text in overrides]
    return frozenset(text for key, text in keyed if key != "epochs" and not is_neutral(key))
