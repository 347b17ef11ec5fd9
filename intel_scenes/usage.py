"""Text of `--help`: the groups and keys of a command, with their comments from `conf/`."""

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from intel_scenes import keys

OF_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+),\s*'?([^'}]*)'?\}")


def text(
    config_name: str,
    composed: Mapping[str, Any],
    choices: Mapping[str, str | None],
    files: Callable[[str], Sequence[str]],
    width: int,
) -> str:
    """Return what can be set on the command line of a command, with the present values.

    Args:
        config_name: Name of the command's configuration.
        composed: Configuration as plain values, interpolations as written in the files.
        choices: File chosen in each group.
        files: Lists the names of the files of a group.
        width: Columns of the terminal.
    """
    parts = []
    groups = keys.groups(config_name)
    if groups:
        parts.append(_heading("Groups, set as GROUP=NAME:", *(_group(group, files, width) for group in groups)))
    if any(group.name == "study" for group in groups):
        parts.append(_heading("Prepared studies, set as study=NAME:", _studies(width)))
    sections = [_section(lines, width) for lines in _sections(config_name, composed, choices)]
    parts.append(_heading("Keys, set as KEY=VALUE, with their current values:", "\n\n".join(sections)))
    if "trainer" in composed:
        parts.append(
            _filled(
                "Add further arguments of the optimizer, the scheduler, Lightning's Trainer or the logger as "
                "+KEY=VALUE, such as +trainer.gradient_clip_val=1.",
                width,
                0,
            )
        )
    return "\n\n".join(parts)


def _heading(title: str, *paragraphs: str) -> str:
    return "\n\n".join([title, "\n".join(paragraphs)])


def _filled(words: str, width: int, indent: int, first: str = "") -> str:
    return textwrap.fill(
        words,
        width,
        initial_indent=first or " " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _group(group: keys.Group, files: Callable[[str], Sequence[str]], width: int) -> str:
    names = _filled(f"{group.name}: {', '.join(sorted(files(group.name)))}", width, 6, "  ")
    return f"{names}\n{_filled(group.sentence, width, 6)}"


def _studies(width: int) -> str:
    folder = keys.conf_folder() / "study"
    questions = {path.stem: keys.values(path)["study"]["question"] for path in sorted(folder.glob("*.yaml"))}
    indent = max(map(len, questions)) + 4
    return "\n".join(_filled(text, width, indent, f"  {name}".ljust(indent)) for name, text in questions.items())


def _sections(
    config_name: str, composed: Mapping[str, Any], choices: Mapping[str, str | None]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a title for each section, and its keys with their values, by which the sentences stand."""
    sentences = keys.sentences(config_name, frozenset(choices.items()))
    groups = {group.name: group.sentence for group in keys.groups(config_name)}
    single = {name: value for name, value in composed.items() if not isinstance(value, Mapping)}
    yield "", _shown(config_name, single, sentences)
    for name, values in composed.items():
        if name == "hydra" or not isinstance(values, Mapping):
            continue
        sentence = sentences.get(name) or groups.get(name, "")
        title = f"{name}={choices[name]}" if name in groups and choices.get(name) else name
        if shown := _shown(config_name, values, sentences, f"{name}."):
            yield f"{title}: {sentence}" if sentence else "", shown


def _shown(
    config_name: str, values: Mapping[str, Any], sentences: Mapping[str, str], prefix: str = ""
) -> dict[str, str]:
    lines: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            lines |= _shown(config_name, value, sentences, f"{name}.")
        elif (typed := _value(value)) is not None and keys.is_public(name, config_name):
            is_missing = typed == "???"
            sentence = sentences.get(name, "")
            lines[name if is_missing else f"{name}={typed}"] = f"required: {sentence}" if is_missing else sentence
    return lines


def _value(value: object) -> str | None:
    """Return a value as it is typed on the command line; None for one that the run computes."""
    if isinstance(value, list):
        return f"[{','.join(str(_value(item)) for item in value)}]"
    if not isinstance(value, str):
        return json.dumps(value)
    if variable := OF_ENVIRONMENT.fullmatch(value):
        return f"${variable[1]}" if variable[2] == "null" else variable[2]
    return None if "${" in value else value or "''"


def _section(section: tuple[str, Mapping[str, str]], width: int) -> str:
    """Return a title and a line or more for each key, its sentence beside it where there is room, else below."""
    title, shown = section
    indent = min(32, max(map(len, shown)) + 4)
    lines = [_filled(title, width, 0)] if title else []
    for key, sentence in shown.items():
        begun = f"  {key}".ljust(indent)
        if len(key) + 4 > indent:
            lines.append(begun if len(begun) <= width else _filled(key.replace(",", ", "), width, 6, "  "))
            begun = " " * indent
        lines.append(_filled(sentence, width, indent, begun) if sentence else begun.rstrip())
    return "\n".join(lines)
