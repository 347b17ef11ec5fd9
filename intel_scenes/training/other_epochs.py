"""Whether a run that is complete differs from a new one in its number of epochs alone, and how to go on from it."""

import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from intel_scenes import keys, record
from intel_scenes.digests import is_neutral
from intel_scenes.record import Status, Summary
from intel_scenes.training.claim import Place


def hint_of_other_epochs(place: Place, overrides: Iterable[str], known: Summary) -> str | None:
    """A sentence for who wants to train a complete run for longer: another number of epochs is another run.

    A schedule is made for its epochs, so a run of ten is not one of five that goes on.

    Args:
        place: Of the run, beside whose folder others are looked for.
        overrides: What was typed for it.
        known: Its summary so far.

    Returns:
        None where the run is not new or part of a sweep, and where no other differs in its epochs alone.
    """
    if place.siblings is not None or Summary.peek(place.folder) is not None:
        return None
    wanted, others = _without_epochs(overrides), []
    for path in sorted(place.folder.parent.glob(f"*/{record.OVERRIDES}")):
        if path.parent == place.folder or _without_epochs(_typed(path)) != wanted:
            continue
        summary = Summary.peek(path.parent)
        if summary is None or summary.status is not Status.COMPLETED:
            continue
        # The images may be others, since data.root is no part of what was typed that changes a result.
        if summary.epochs not in (None, known.epochs) and summary.data_fingerprint == known.data_fingerprint:
            others.append((summary.epochs, os.path.relpath(path.parent)))
    if not others:
        return None
    number, folder = max(others)
    return (
        f"epochs={known.epochs} is another run than {folder}, which differs only in epochs={number} and stays as it is; "
        f"to start from its weights, add \"model.weights='{folder}/{record.BEST}'\""
    )


def _typed(path: Path) -> list[str]:
    try:
        read = yaml.load(path.read_text(), Loader=keys.LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    return [str(item) for item in read] if isinstance(read, list) else []


def _without_epochs(overrides: Iterable[str]) -> frozenset[str]:
    """What was typed that changes a result, but for the number of epochs; in any order."""
    keyed = [(text.lstrip("+~").partition("=")[0], text) for text in overrides]
    return frozenset(text for key, text in keyed if key != "epochs" and not is_neutral(key))
