"""The keys of `conf/`, with the sentence beside each."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILLED_IN = ("folder", "num_steps")  # keys of a training that the run itself sets
GLOBAL = "# @package _global_"  # opens a file of a group whose keys are as they stand in it

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is in C, and ten times as fast


@dataclass(frozen=True)
class Key:
    """A key as a file of `conf/` has it.

    Attributes:
        name: As it is set, such as `data.batch_size`.
        default: Its value in the file, interpolations as they stand there.
        sentence: The comment beside it; empty where there is none.
    """

    name: str
    default: Any
    sentence: str


@dataclass(frozen=True)
class Group:
    """A group of files in the defaults of a command's configuration, with the comment beside it."""

    name: str
    sentence: str


def conf_folder() -> Path:
    """The folder of configuration files: inside an installed package, beside it in a source checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.exists() else inside.parent.parent / "conf"


def groups(config_name: str) -> list[Group]:
    """The groups of a command's configuration, in their order there."""
    lines, root = _parsed(conf_folder() / f"{config_name}.yaml")
    (defaults,) = (value for key, value in root.value if key.value == "defaults")
    entries = [entry.value[0] for entry in defaults.value if isinstance(entry, yaml.MappingNode)]
    return [Group(key.value, _comment(lines, value)) for key, value in entries if not key.value.startswith("override ")]


@cache
def values(path: Path) -> dict[str, Any]:
    """What a file of `conf/` holds."""
    return yaml.load(path.read_text(), Loader=LOADER) or {}


@cache
def of_file(path: Path) -> tuple[Key, ...]:
    """The keys of a file of `conf/` but Hydra's own, those of its groups' files not among them."""
    lines, root = _parsed(path)
    is_of_group = path.parent != conf_folder() and lines[0] != GLOBAL
    prefix = f"{path.parent.relative_to(conf_folder()).as_posix().replace('/', '.')}." if is_of_group else ""
    if not root:
        return ()
    found = _of_mapping(lines, root, values(path), prefix)
    return tuple(key for key in found if key.name.removeprefix(prefix).partition(".")[0] not in ("defaults", "hydra"))


@cache
def sentences(config_name: str, choices: frozenset[tuple[str, str | None]] = frozenset()) -> dict[str, str]:
    """The sentence of every key of a command, and of every section, from the first file that has one.

    A key may stand in several files of its group, and need not be explained in each.

    Args:
        config_name: Of the command.
        choices: Groups with the names of the files whose sentences come first.
    """
    found = {key.name: key.sentence for key in of_file(conf_folder() / f"{config_name}.yaml") if key.sentence}
    chosen = dict(choices)
    for group in groups(config_name):
        first = conf_folder() / group.name / f"{chosen.get(group.name)}.yaml"
        for key in of_group(group.name, [*(with_parents(first) if first.is_file() else ()), *files(group.name)]):
            if key.sentence:
                found.setdefault(key.name, key.sentence)
    return found


def is_public(name: str, config_name: str) -> bool:
    """Whether a key is for users to set: no part of how something is called, and none that a run fills in."""
    return not last_part(name).startswith("_") and not (config_name == "train" and name in FILLED_IN)


def last_part(name: str) -> str:
    """`lr` of `optim.lr`."""
    return name.rpartition(".")[2]


def _parsed(path: Path) -> tuple[list[str], Any]:
    """The lines of a file, and its YAML nodes, which know where they stand."""
    text = path.read_text()
    return text.splitlines(), yaml.compose(text, Loader=LOADER)


def _of_mapping(lines: Sequence[str], node: Any, given: Mapping[str, Any], prefix: str) -> Iterator[Key]:  # noqa: ANN401
    for key, value in node.value:
        name, default = f"{prefix}{key.value}", given[key.value]
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if sentence := _comment(lines, key):
                yield Key(name, None, sentence)
            yield from _of_mapping(lines, value, default, f"{name}.")
        else:
            yield Key(name, default, _comment(lines, value))


def _comment(lines: Sequence[str], node: Any) -> str:  # noqa: ANN401
    """What stands on the line behind a node."""
    rest = lines[node.end_mark.line][node.end_mark.column :] if node.end_mark.line < len(lines) else ""
    found = re.match(r":?\s+#\s*(.+)", rest)
    return found[1].strip() if found else ""


def files(group: str) -> list[Path]:
    """The files of a group."""
    return sorted((conf_folder() / group).glob("*.yaml"))


def of_group(group: str, paths: Iterable[Path]) -> Iterator[Key]:
    """The keys below the name of a group in some of its files; a recipe or a study may set others."""
    return (key for path in paths for key in of_file(path) if key.name.startswith(f"{group}."))


def with_parents(path: Path) -> list[Path]:
    """A file of a group, and those that it begins with."""
    names = values(path).get("defaults", [])
    parents = [path.with_name(f"{name}.yaml") for name in names if isinstance(name, str) and name != "_self_"]
    return [path, *(file for parent in parents for file in with_parents(parent))]
