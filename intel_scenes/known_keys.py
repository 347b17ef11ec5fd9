"""Unknown keys of a configuration, and which keys were probably meant."""

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from intel_scenes import config, keys, sections
from intel_scenes.errors import UserError
from intel_scenes.keys import last_part

TRAINER = "lightning.pytorch.Trainer"  # called with the section `trainer`
OPEN = ("optim", "scheduler", "trainer", "logger")  # sections whose keys are arguments of their `_target_`
OF_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")  # instructions to Hydra, not arguments
MOST_LISTED = 16  # names that a sentence lists

# Names that other projects give to the last part of a key, or to a group.
SYNONYMS = {
    **dict.fromkeys(("learning_rate", "rate", "base_lr", "max_lr"), "lr"),
    **dict.fromkeys(("num_epochs", "max_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("bs", "batch", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("resolution", "img_size", "input_size", "crop_size"), "image_size"),
    **dict.fromkeys(("wd", "l2"), "weight_decay"),
    **dict.fromkeys(("optimizer", "opt"), "optim"),
    **dict.fromkeys(("lr_scheduler", "schedule", "sched"), "scheduler"),
    **dict.fromkeys(("backbone", "network", "net", "arch", "architecture"), "model"),
    **dict.fromkeys(("dataset", "datamodule"), "data"),
    **dict.fromkeys(("augmentation", "augmentations", "transforms"), "augment"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("gpus", "num_gpus", "num_devices"), "devices"),
    **{"pretrained": "weights", "smoothing": "label_smoothing", "ema": "ema_decay", "path": "root", "data_dir": "root"},
    **{"num_workers": "threads", "num_threads": "threads", "val_split": "val_fraction", "warmup": "warmup_fraction"},
}


def check_keys(plain: Mapping[str, Any], config_name: str = "train", *, with_targets: bool = True) -> None:
    """Refuse a configuration with an unknown key, which would change nothing but the name of the run.

    Args:
        plain: Nested values, resolved or not.
        config_name: Name of the command's configuration.
        with_targets: Whether to check the arguments of each `_target_`, which imports its library.

    Raises:
        UserError: A key is unknown.
    """
    if refusals := unknown_keys(plain, config_name, with_targets=with_targets):
        raise UserError(f"{', and '.join(refusals.values())}; --help lists all keys")


def unknown_keys(plain: Mapping[str, Any], config_name: str = "train", *, with_targets: bool = True) -> dict[str, str]:
    """Return the unknown keys of a configuration, each with a clause that says so and suggests the key probably meant.

    A key is unknown if it has no field, if it belongs to another file of `data` than the chosen one, or if it is no
    argument of the `_target_` of an open section. A `_target_` that cannot be imported, or accepts any argument, is
    skipped.

    Args:
        plain: Nested values, resolved or not.
        config_name: Name of the command's configuration.
        with_targets: Whether to check the arguments of each `_target_`, which imports its library.
    """
    kind = config.COMMANDS[config_name]
    refusals = {name: _unknown(name, config_name) for name in sections.keys_without_field(kind, plain)}
    refusals |= _of_other_images(plain.get("data"))
    if with_targets and config_name == "train":
        for name in OPEN:
            section = plain.get(name)
            values = section.get("factory") if name == "scheduler" and isinstance(section, Mapping) else section
            if isinstance(values, Mapping):
                refusals |= _not_taken("scheduler.factory" if name == "scheduler" else name, values)
    return refusals


def _of_other_images(data: object) -> dict[str, str]:
    """Return the keys of `data` that only other files of that group have."""
    source = data.get("source") if isinstance(data, Mapping) else None
    chosen = keys.conf_folder() / "data" / f"{source}.yaml"
    if not isinstance(data, Mapping) or not chosen.is_file():
        return {}
    taken = {key.name for key in keys.of_group("data", keys.with_parents(chosen))}
    refusals = {}
    for name in (f"data.{key}" for key in data if f"data.{key}" not in taken):
        files = [path for path in keys.files("data") if name in {key.name for key in keys.of_file(path)}]
        if files:
            others = " or ".join(f"data={path.stem}" for path in files)
            refusals[name] = f"{name} is a key of {others} only (remove it with ~{name})"
    return refusals


def nearest(name: str, choices: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Return the keys and groups that an unknown name probably means, at most three, the most likely first.

    Names with the same last part, or a synonym of it, come first, in any section; then names of similar spelling, in
    the same section before all others.
    """
    section, _, last = name.rpartition(".")
    if last.startswith("_"):
        return []
    names = list(dict.fromkeys(choices))
    meant = SYNONYMS.get(last, last)
    beside = {last_part(key): key for key in names if key.rpartition(".")[0] == SYNONYMS.get(section, section)}
    same = sorted((key for key in names if last_part(key) == meant), key=lambda key: key.count("."))
    if meant in beside:
        return [beside[meant]]
    if same and meant != last:
        return same[:3]
    if alike := difflib.get_close_matches(last, beside, cutoff=cutoff):
        return [beside[part] for part in alike]
    if last == "name":  # which any section may have
        return []
    if same:
        return same[:3]
    if not (section and beside) and (alike := difflib.get_close_matches(name, names, cutoff=cutoff)):
        return alike
    elsewhere = {last_part(key): key for key in reversed(names)}
    return [elsewhere[part] for part in difflib.get_close_matches(last, elsewhere, cutoff=max(cutoff, 0.8))]


def no_such_key(name: str, near: Sequence[str]) -> str:
    """Return a clause that says that there is no such key and suggests the nearest ones."""
    return f"there is no key {name}" + (f" (did you mean {' or '.join(near)}?)" if near else "")


def _unknown(name: str, config_name: str) -> str:
    """Return a clause on an unknown key that suggests the nearest keys, or else lists all of its section."""
    names = {*sections.key_names(config.COMMANDS[config_name])}
    for group in keys.groups(config_name):
        names |= {group.name, *(key.name for key in keys.of_group(group.name, keys.files(group.name)))}
    choices = [key for key in sorted(names) if keys.is_public(key, config_name)]
    near, section = nearest(name, choices), name.rpartition(".")[0]
    beside = [last_part(key) for key in choices if key.rpartition(".")[0] == section]
    takes = f": {section} takes {', '.join(beside)}" if not near and section and 0 < len(beside) <= MOST_LISTED else ""
    return f"{no_such_key(name, near)}{takes}"


def _not_taken(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a section, and of `_target_`s within it, that are no arguments of their `_target_`."""
    target = TRAINER if name == "trainer" else values.get("_target_")
    is_partial = values.get("_partial_") is True
    arguments = {key: value for key, value in values.items() if key not in OF_HYDRA}
    refusals: dict[str, str] = {}
    if target is None:
        refusals = {f"{name}.{key}": f"{name}.{key} has no effect, because no {name} is chosen" for key in arguments}
    elif (taken := _arguments(str(target), is_partial=is_partial)) is not None:
        for key in (key for key in arguments if key not in taken):
            near = nearest(f"{name}.{key}", [f"{name}.{argument}" for argument in taken])
            listed = f"takes {', '.join(taken)}" if len(taken) <= MOST_LISTED else "does not take it"
            refusals[f"{name}.{key}"] = no_such_key(f"{name}.{key}", near) + ("" if near else f": {target} {listed}")
    for key, value in arguments.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping) and "_target_" in inner:
                refusals |= _not_taken(f"{name}.{key}", inner)
    return refusals


@cache
def _arguments(target: str, *, is_partial: bool) -> tuple[str, ...] | None:
    """Return the arguments that a `_target_` takes by name; None where they cannot be known.

    The first argument of a partial is left out, because the run passes it: the weights, the optimizer or the step.
    """
    from hydra.utils import get_object

    try:
        parameters = list(inspect.signature(get_object(target)).parameters.values())
    except Exception:  # reported where the target is called
        return None
    if any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(parameter.name for parameter in parameters[1 if is_partial else 0 :] if parameter.kind in named)
