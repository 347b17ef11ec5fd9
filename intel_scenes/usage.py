"""The text of `--help`: the groups and keys of a command, with the sentences that stand beside them in `conf/`."""

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
    """What can be set on the command line of a command, and to what it is set now.

    Args:
        config_name: Of the command.
        composed: Its configuration as plain values, interpolations as they stand in the files.
        choices: The file chosen in each group.
        files: The names of the files of a group.
        width: Columns of the terminal.
    """
    parts = []
    groups = keys.groups(config_name)
    if groups:
        parts.append(_heading("Groups, chosen by GROUP=NAME:", *(_group(group, files, width) for group in groups)))
    if any(group.name == "study" for group in groups):
        parts.append(_heading("Prepared studies, chosen by study=NAME:", _studies(width)))
    sections = [_section(lines, width) for lines in _sections(config_name, composed, choices)]
    parts.append(_heading("Keys, set by KEY=VALUE, here with what they are set to:", "\n\n".join(sections)))
    if "trainer" in composed:
        parts.append(
            _filled(
                "Further arguments of the optimizer, the scheduler, Lightning's Trainer or the logger are added by "
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
    return "\n".join(_filled(said, width, indent, f"  {name}".ljust(indent)) for name, said in questions.items())


def _sections(
    config_name: str, composed: Mapping[str, Any], choices: Mapping[str, str | None]
) -> Iterator[tuple[str, dict[str, str]]]:
    """A title for each section, and its keys as they are set, with the sentence of each."""
    sentences = keys.sentences(config_name, frozenset(choices.items()))
    groups = {group.name: group.sentence for group in keys.groups(config_name)}
    single = {name: value for name, value in composed.items() if not isinstance(value, Mapping)}
    yield "", _shown(config_name, single, sentences)
    for name, values in composed.items():
        if name == "hydra" or not isinstance(values, Mapping):
            continue
        said = sentences.get(name) or groups.get(name, "")
        title = f"{name}={choices[name]}" if name in groups and choices.get(name) else name
        if shown := _shown(config_name, values, sentences, f"{name}."):
            yield f"{title}: {said}" if said else "", shown


def _shown(
    config_name: str, values: Mapping[str, Any], sentences: Mapping[str, str], prefix: str = ""
) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _shown(config_name, value, sentences, f"{name}.")
        elif (said := _value(value)) is not None and keys.is_public(name, config_name):
            is_missing = said == "???"
            sentence = sentences.get(name, "")
            found[name if is_missing else f"{name}={said}"] = f"required: {sentence}" if is_missing else sentence
    return found


def _value(value: object) -> str | None:
    """A value as it is written on the command line; None for one that the run works out."""
    if isinstance(value, list):
        return f"[{','.join(str(_value(item)) for item in value)}]"
    if not isinstance(value, str):
        return json.dumps(value)
    if found := OF_ENVIRONMENT.fullmatch(value):
        return f"${found[1]}" if found[2] == "null" else found[2]
    return None if "${" in value else value or "''"


def _section(section: tuple[str, Mapping[str, str]], width: int) -> str:
    """A title, and a line or more for each key: beside it where there is room, else below."""
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
