"""Keys of a configuration that nothing takes, and what was perhaps meant."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from intel_scenes import keys
from intel_scenes.errors import UserError
from intel_scenes.keys import last_part

TRAINER = "lightning.pytorch.Trainer"  # takes what stands under `trainer`
OF_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")  # how to call it, and no arguments
MOST_LISTED = 16  # names that a sentence lists

# What others call the last part of a key, or a group.
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
    """Refuses a configuration with a key that nothing takes, or without one that every run needs.

    Args:
        plain: As plain values, resolved or not.
        config_name: Of the command.
        with_targets: Also asks what is instantiated which arguments it takes, for which its library is imported.

    Raises:
        UserError: It has such a key, which would change nothing but the name of the run; or lacks one.
    """
    if found := unknown_keys(plain, config_name, with_targets=with_targets):
        raise UserError(f"{', and '.join(found.values())}; --help lists all keys")
    if missing := _missing(plain, config_name):
        raise UserError(f"{missing[0]} was taken out, and every run needs it: set {missing[0]}=VALUE instead")


def _missing(plain: Mapping[str, Any], config_name: str) -> list[str]:
    """Keys that a configuration lacks; which arguments something that is called needs, that says itself."""
    known = _known(config_name, plain)
    called = _called(known)
    data = plain.get("data")
    if isinstance(data, Mapping) and f"{data.get('source')}" not in {path.stem for path in keys.files("data")}:
        return []  # which keys those images need is not known, and the source is refused
    there = _with_sections({name for name, _ in _walk(plain, called)})
    needed = (name for name in known if not any(name.startswith(f"{one}.") for one in called))
    return sorted((name for name in needed if name not in there), key=lambda name: (name.count("."), name))


def _called(known: Iterable[str]) -> set[str]:
    """The keys whose values say what is called, and with what."""
    return {name.removesuffix("._target_") for name in known if name.endswith("._target_")} | {"trainer"}


def unknown_keys(plain: Mapping[str, Any], config_name: str = "train", *, with_targets: bool = True) -> dict[str, str]:
    """Keys of a configuration that nothing takes, each with a clause that says so and names what was perhaps meant.

    They are those that no file of `conf/` has; and below a `_target_`, and `trainer`, those that are no argument of
    what is called. What cannot be imported, or takes any argument, is passed over.

    Args:
        plain: As plain values, resolved or not.
        config_name: Of the command.
        with_targets: Also asks what is instantiated which arguments it takes, for which its library is imported.
    """
    known = _known(config_name, plain)
    called = _called(known)
    found: dict[str, str] = {}
    for name, value in _walk(plain, called):
        if name in called:
            found |= _not_taken(name, value) if with_targets and isinstance(value, Mapping) else {}
        elif name not in known:
            found[name] = _unknown(name, known, config_name)
    return found


def nearest(name: str, choices: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """The keys and groups that one which is not among them may be meant for, at most three, the likeliest first.

    By the last part of the name and what others call it, wherever such a key stands; then by the spelling, within its
    own section before all others.
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
        return [beside[one] for one in alike]
    if last == "name":  # which any section may have
        return []
    if same:
        return same[:3]
    if not (section and beside) and (alike := difflib.get_close_matches(name, names, cutoff=cutoff)):
        return alike
    elsewhere = {last_part(key): key for key in reversed(names)}
    return [elsewhere[one] for one in difflib.get_close_matches(last, elsewhere, cutoff=max(cutoff, 0.8))]


def no_such_key(name: str, near: Sequence[str]) -> str:
    """That there is no such key, and which are near to it."""
    return f"there is no key {name}" + (f" (did you mean {' or '.join(near)}?)" if near else "")


@cache
def _all_keys(config_name: str, source: str | None) -> frozenset[str]:
    """The keys of a command's file and of all files of its groups; of `data` those of one file alone."""
    found = {key.name for key in keys.of_file(keys.conf_folder() / f"{config_name}.yaml")}
    for group in keys.groups(config_name):
        chosen = keys.conf_folder() / group.name / f"{source}.yaml"
        paths = keys.with_parents(chosen) if group.name == "data" and chosen.is_file() else keys.files(group.name)
        found |= {key.name for key in keys.of_group(group.name, paths)}
    return frozenset(_with_sections(found))


def _with_sections(names: set[str]) -> set[str]:
    """Keys, and the sections that they stand in: `optim` of `optim.lr`."""
    return names | {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)}


def _known(config_name: str, plain: Mapping[str, Any]) -> frozenset[str]:
    data = plain.get("data")
    return _all_keys(config_name, str(data.get("source")) if isinstance(data, Mapping) else None)


def _walk(values: Mapping[str, Any], called: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys with their values; a mapping that is called, and one that is empty, as a whole."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and name not in called:
            yield from _walk(value, called, f"{name}.")
        else:
            yield name, value


def _unknown(name: str, known: frozenset[str], config_name: str) -> str:
    """That there is no such key, with those that are near, or else all of its section."""
    if name in _all_keys(config_name, None):
        files = [path for path in keys.files("data") if name in {key.name for key in keys.of_file(path)}]
        return f"{name} is a key of {' or '.join(f'data={path.stem}' for path in files)} alone (~{name} takes it out)"
    names = {*known, *(group.name for group in keys.groups(config_name))}
    choices = [key for key in sorted(names) if keys.is_public(key, config_name)]
    near, section = nearest(name, choices), name.rpartition(".")[0]
    beside = [last_part(key) for key in choices if key.rpartition(".")[0] == section]
    takes = f": {section} takes {', '.join(beside)}" if not near and section and 0 < len(beside) <= MOST_LISTED else ""
    return f"{no_such_key(name, near)}{takes}"


def _not_taken(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The keys of what is called that are none of its arguments, or of those of what is called for them."""
    target = TRAINER if name == "trainer" else values.get("_target_")
    is_partial = values.get("_partial_") is True
    arguments = {key: value for key, value in values.items() if key not in OF_HYDRA}
    found: dict[str, str] = {}
    if target is None:
        found = {f"{name}.{key}": f"{name}.{key} has no effect, because no {name} is chosen" for key in arguments}
    elif (taken := _arguments(str(target), is_partial=is_partial)) is not None:
        for key in (key for key in arguments if key not in taken):
            near = nearest(f"{name}.{key}", [f"{name}.{one}" for one in taken])
            listed = f"takes {', '.join(taken)}" if len(taken) <= MOST_LISTED else "does not take it"
            found[f"{name}.{key}"] = no_such_key(f"{name}.{key}", near) + ("" if near else f": {target} {listed}")
    for key, value in arguments.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping) and "_target_" in inner:
                found |= _not_taken(f"{name}.{key}", inner)
    return found


@cache
def _arguments(target: str, *, is_partial: bool) -> tuple[str, ...] | None:
    """The arguments that something takes by name; None where that is not known.

    Of a partial the first one is left out, which a run gives: the weights, the optimizer or the step.
    """
    from hydra.utils import get_object

    try:
        parameters = list(inspect.signature(get_object(target)).parameters.values())
    except Exception:  # what is wrong with it is told where it is called
        return None
    if any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(one.name for one in parameters[1 if is_partial else 0 :] if one.kind in named)
