"""The factors of a study and the labels of its arms."""

import re
from collections.abc import Iterable, Mapping, Sequence

from intel_scenes import files, record
from intel_scenes.digests import is_neutral
from intel_scenes.studies.load import Run

OTHER_GROUPS = ("augment", "data", "trainer", "without")  # a file name alone is the label where nothing else varies
DEFAULTS = {key: key for key in record.GROUP_KEYS} | {"model.name": "model_name"}  # keys of the summary
NEED_KEY = ("true", "false", "none", "null", "default")  # values that mean nothing without their key


def factors_of(plan: record.StudyPlan, completed: Sequence[Run], failed: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Return the compared and the tuned factors: those of the plan that vary, and all others that vary."""
    factors = [key for key in varying([*completed, *(run for run in failed if run.overrides)]) if key != "seed"]
    if not factors:  # a single arm is named after what the study compares
        return list(dict.fromkeys(plan.compared)), []
    tuned = [key for key in factors if key in plan.tuned]
    compared = [key for key in [*plan.compared, *factors] if key in factors and key not in tuned]
    return list(dict.fromkeys(compared)), tuned


def varying(runs: Sequence[Run]) -> list[str]:
    """Return the sorted override keys whose values differ between runs, without keys that change no result.

    Where no run records its overrides, the configuration groups whose files differ are returned.
    """
    keys = sorted({key for run in runs for key in run.overrides if not is_neutral(key)})
    keys = keys or [key for key in record.GROUP_KEYS if not is_neutral(key)]
    return [key for key in keys if len(_levels(runs, key)) > 1]


def _levels(runs: Sequence[Run], key: str) -> set[str]:
    """Return the values of a factor; runs with equal digests are the same and give one, the typed one if any."""
    by_digest: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: key not in run.overrides):
        by_digest.setdefault(run.summary.configuration_digest or run.name, value_of(run, key))
    return set(by_digest.values())


def value_of(run: Run, key: str) -> str:
    """Return the value of a factor as labels write it; for a group or model.name without an override, what was used."""
    default = getattr(run.summary, DEFAULTS[key]) if key in DEFAULTS else None
    return as_written(run.overrides.get(key, str(default) if default is not None else "default"))


def as_written(value: str) -> str:
    """Return a value as labels write it; numbers are normalized, so that `1.0` is `1`, and so is YAML's `false`."""
    try:
        return f"{float(value):.15g}"
    except ValueError:
        return files.yaml_word(value)


def label_as_written(label: str) -> str:
    """Return a label that was typed, with its values as labels write them."""
    parts = (part.rpartition("=") for part in label.split("/"))
    return "/".join(f"{key}{sign}{as_written(value)}" for key, sign, value in parts)


def without_folders(values: Iterable[str]) -> dict[str, str]:
    """Return what to write for each value of a factor: a path's file name, unless two paths share it."""
    unique = set(values)
    names = {value: value.rpartition("/")[2] if re.match(r"[~.]{0,2}/", value) else value for value in unique}
    return names if len(set(names.values())) == len(names) else {value: value for value in unique}


def with_file_names(label: str, names: Mapping[str, str]) -> str:
    """Return a typed label with each path replaced by the file name that labels show for it."""
    for path in sorted(names, key=len, reverse=True):
        label = label.replace(path, names[path])
    return label


def with_recipe(runs: Sequence[Run], factors: Sequence[str], planned: Sequence[str]) -> list[str]:
    """Return unplanned keys whose values are determined by the recipe; arms are then named after the recipe alone."""
    if "recipe" not in factors:
        return []
    recipes = {value_of(run, "recipe") for run in runs}
    return [
        key
        for key in factors
        if key not in (*record.GROUP_KEYS, *planned)
        and len({(value_of(run, "recipe"), value_of(run, key)) for run in runs}) == len(recipes)
    ]


def without_implied(runs: Sequence[Run], keys: Sequence[str], planned: Sequence[str]) -> list[str]:
    """Return the keys that name an arm, without `model` and `model.weights` if a planned `model.name` fixes them."""
    implied = [key for key in keys if key in ("model", "model.weights") and key not in planned]
    if "model.name" not in planned or "model.name" not in keys:
        return list(keys)
    models = {value_of(run, "model.name") for run in runs}
    combinations = {tuple(value_of(run, key) for key in ("model.name", *implied)) for run in runs}
    return [key for key in keys if key not in implied or len(combinations) > len(models)]


def label_of(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """Return the label of an arm, as in `resnet18/sgd/optim.momentum=0.9`.

    Files of groups and names of models stand alone, all other values with their key.
    """
    parts = []
    for key in keys:
        can_stand_alone = key == "model.name" or (len(keys) == 1 and key in OTHER_GROUPS)
        is_alone = can_stand_alone and values[key].lower() not in NEED_KEY
        parts.append(values[key] if key in record.GROUP_KEYS or is_alone else f"{key}={values[key]}")
    return "/".join(parts) or "all runs"


def is_named(label: str, text: str) -> bool:
    """Return whether a text names the arm with this label.

    The text is the label, the label with keys without their groups, or the values alone; numbers in any notation. The
    name of a model may have its key.
    """
    wanted = label_as_written(text.replace("model.name=", ""))
    short, values = re.sub(r"[\w.]+\.(?=\w+=)", "", label), re.sub(r"[\w.]+=", "", label)
    return text == label or wanted in (label, short, values)


def level_order(level: str) -> tuple[float, str]:
    """Return a sort key for the levels of a factor: numbers by size, before names."""
    try:
        return float(level), level
    except ValueError:
        return float("inf"), level


def seeds_in_order(seeds: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct seeds in numerical order."""
    return tuple(sorted(set(seeds), key=lambda seed: (len(seed), seed)))
