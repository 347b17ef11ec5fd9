"""Keys of `conf/`, with the comment on each."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILLED_IN = ("folder", "num_steps")  # keys that the run itself sets
GLOBAL = "# @package _global_"  # first line of a group's file whose keys are not below the name of the group

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is written in C, and ten times as fast


@dataclass(frozen=True)
class Key:
    """A key as a file of `conf/` has it.

    Attributes:
        name: Dotted name, such as `data.batch_size`.
        default: Value in the file, interpolations as written there.
        sentence: Comment on the same line; may be empty.
    """

    name: str
    default: Any
    sentence: str


@dataclass(frozen=True)
class Group:
    """A group of files in the defaults of a command's configuration, with the comment on it."""

    name: str
    sentence: str


def conf_folder() -> Path:
    """Return the folder of configuration files: inside an installed package, beside it in a source checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.exists() else inside.parent.parent / "conf"


def groups(config_name: str) -> list[Group]:
    """Return the groups of a command's configuration, in their order there."""
    lines, root = _parsed(conf_folder() / f"{config_name}.yaml")
    (defaults,) = (value for key, value in root.value if key.value == "defaults")
    entries = [entry.value[0] for entry in defaults.value if isinstance(entry, yaml.MappingNode)]
    return [Group(key.value, _comment(lines, value)) for key, value in entries if not key.value.startswith("override ")]


@cache
def values(path: Path) -> dict[str, Any]:
    """Return the content of a file of `conf/`."""
    return yaml.load(path.read_text(), Loader=LOADER) or {}


@cache
def of_file(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file of `conf/`, without Hydra's own and without those of other files that it includes."""
    lines, root = _parsed(path)
    is_of_group = path.parent != conf_folder() and lines[0] != GLOBAL
    prefix = f"{path.parent.relative_to(conf_folder()).as_posix().replace('/', '.')}." if is_of_group else ""
    if not root:
        return ()
    of_file = _of_mapping(lines, root, values(path), prefix)
    return tuple(key for key in of_file if key.name.removeprefix(prefix).partition(".")[0] not in ("defaults", "hydra"))


@cache
def sentences(config_name: str, choices: frozenset[tuple[str, str | None]] = frozenset()) -> dict[str, str]:
    """Return the comment on every key of a command and on every section, from the first file that has one.

    A key may be in several files of its group, and need not be explained in each.

    Args:
        config_name: Name of the command's configuration.
        choices: Groups with the names of the files whose comments take precedence.
    """
    by_name = {key.name: key.sentence for key in of_file(conf_folder() / f"{config_name}.yaml") if key.sentence}
    chosen = dict(choices)
    for group in groups(config_name):
        first = conf_folder() / group.name / f"{chosen.get(group.name)}.yaml"
        for key in of_group(group.name, [*(with_parents(first) if first.is_file() else ()), *files(group.name)]):
            if key.sentence:
                by_name.setdefault(key.name, key.sentence)
    return by_name


def is_public(name: str, config_name: str) -> bool:
    """Return whether users set a key: `_target_` and the like and what a run fills in are not public."""
    return not last_part(name).startswith("_") and not (config_name == "train" and name in FILLED_IN)


def last_part(name: str) -> str:
    """Return the last part of a name, such as `lr` of `optim.lr`."""
    return name.rpartition(".")[2]


def _parsed(path: Path) -> tuple[list[str], Any]:
    """Return the lines of a file and its YAML nodes, which hold their positions."""
    text = path.read_text()
    return text.splitlines(), yaml.compose(text, Loader=LOADER)


def _of_mapping(lines: Sequence[str], node: Any, defaults: Mapping[str, Any], prefix: str) -> Iterator[Key]:  # noqa: ANN401
    for key, value in node.value:
        name, default = f"{prefix}{key.value}", defaults[key.value]
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if sentence := _comment(lines, key):
                yield Key(name, None, sentence)
            yield from _of_mapping(lines, value, default, f"{name}.")
        else:
            yield Key(name, default, _comment(lines, value))


def _comment(lines: Sequence[str], node: Any) -> str:  # noqa: ANN401
    """Return the comment behind a node, on the same line."""
    rest = lines[node.end_mark.line][node.end_mark.column :] if node.end_mark.line < len(lines) else ""
    comment = re.match(r":?\s+#\s*(.+)", rest)
    return comment[1].strip() if comment else ""


def files(group: str) -> list[Path]:
    """Return the files of a group."""
    return sorted((conf_folder() / group).glob("*.yaml"))


def of_group(group: str, paths: Iterable[Path]) -> Iterator[Key]:
    """Return the keys below the name of a group in some of its files; a recipe or a study may set other keys too."""
    return (key for path in paths for key in of_file(path) if key.name.startswith(f"{group}."))


def with_parents(path: Path) -> list[Path]:
    """Return a file of a group and the files of that group in its defaults."""
    names = values(path).get("defaults", [])
    parents = [path.with_name(f"{name}.yaml") for name in names if isinstance(name, str) and name != "_self_"]
    return [path, *(file for parent in parents for file in with_parents(parent))]
