"""Write `docs/configuration.md` and `docs/keys.md` from the files of `conf/` and their comments.

Run `python docs/generate.py` after a change in `conf/`; with `--check` nothing is written, and the exit status is 1
where a page is stale. Text of `configuration.md` outside the two markers is written by hand and kept.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from intel_scenes import keys, usage
from intel_scenes.keys import Key

DOCS = Path(__file__).parent
BEGIN, END = "<!-- generated from conf/ by docs/generate.py -->", "<!-- end of the generated part -->"
SECTIONS = ("sweep", "compare", "study")  # of train.yaml, without files of their own
OTHERS = ("compare", "evaluate", "predict", "audit", "bench")  # commands beside train
LAUNCHERS, LAUNCHER_KEYS = "hydra/launcher", "hydra.launcher."
FEWEST_WORDS = 3  # of a clause
EMPTY = "''"
MOST_VALUES, MOST_FILES = 3, 6  # that a cell lists

Row = tuple[str, str, str]  # key, default, comment

KEYS_PAGE = """# Every key

<!-- generated from conf/ by docs/generate.py: change the comments there -->

Set any key on the command line as `KEY=VALUE`, such as `intel-scenes train epochs=4 optim.lr=0.01`;
`intel-scenes COMMAND --help` prints the keys of a command with what they are set to. Where a key has several defaults,
each is followed by the files of its group that have it; a recipe or a study may set any of them.
[Configuration](configuration.md) lists the files.

## train
"""


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; return the exit status."""
    pages = {"configuration.md": configuration_page(), "keys.md": keys_page()}
    stale = [name for name, text in pages.items() if read(DOCS / name) != text]
    if "--check" in arguments:
        sys.stderr.writelines(f"docs/{name} is stale: run python docs/generate.py\n" for name in stale)
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(pages[name], encoding="utf-8")
    return 0


def read(path: Path) -> str:
    """Return the text of a page; empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def configuration_page() -> str:
    """Return the page of the groups and their files, with the hand-written text around the generated part."""
    introduction, _, rest = read(DOCS / "configuration.md").partition(BEGIN)
    parts = [_list_of_files(group.name, group.sentence) for group in keys.groups("train")]
    generated = "\n".join(parts)
    return f"{introduction}{BEGIN}\n\n{generated}\n{END}{rest.partition(END)[2]}"


def _list_of_files(group: str, sentence: str) -> str:
    """Return the heading of a group, and a line for each of its files, the default first."""
    default = _defaults("train").get(group)
    lines = [f"- `{path.stem}`{' (default)' * (path.stem == default)}: {_summary(path)}" for path in _files(group)]
    return "\n".join([f"### `{group}`", "", f"{_capitalized(sentence)}.", "", *lines, ""])


def _files(group: str) -> list[Path]:
    """Return the files of a group of `train`, the default first."""
    default = _defaults("train").get(group)
    return sorted(keys.files(group), key=lambda path: (path.stem != default, path.stem))


def _summary(path: Path) -> str:
    """Return the first clause of the comment that opens a file, without what stands in brackets."""
    lines = path.read_text(encoding="utf-8").removeprefix(f"{keys.GLOBAL}\n").splitlines()
    comment = " ".join(line.removeprefix("# ") for line in lines[: _num_comment_lines(lines)])
    comment = re.sub(r" \([^()]*\)", "", comment).removeprefix("Question: ")
    words = comment.split()
    ends = (number for number, word in enumerate(words, 1) if word[-1] in ".?:;" and number >= FEWEST_WORDS)
    return _capitalized(" ".join(words[: next(ends, len(words))]).rstrip(".:;"))


def _num_comment_lines(lines: list[str]) -> int:
    return next((number for number, line in enumerate(lines) if not line.startswith("# ")), len(lines))


def keys_page() -> str:
    """Return the reference of every key, with its default and its comment."""
    own = _keys_of("train")
    parts = [KEYS_PAGE, _table((key.name, _shown(key.default), key.sentence) for key in own if "." not in key.name)]
    sentences = keys.sentences("train")
    for name in SECTIONS:
        rows = [(key.name, _shown(key.default), key.sentence) for key in own if key.name.startswith(f"{name}.")]
        parts.append(f"### `{name}`\n\n{_capitalized(sentences[name])}.\n\n{_table(rows)}")
    for group in keys.groups("train"):
        rows = [] if group.name in SECTIONS else _rows_of_group(group.name, f"{group.name}.")
        if rows:
            parts.append(f"### `{group.name}`\n\n{_capitalized(group.sentence)}.\n\n{_table(rows)}")
    rows = _rows_of_group(LAUNCHERS, LAUNCHER_KEYS)
    parts.append(f"### `{LAUNCHERS}`\n\nWhat this package sets of each launcher.\n\n{_table(rows)}")
    for command in OTHERS:
        rows = [(key.name, _shown(key.default), key.sentence) for key in _keys_of(command)]
        parts.append(f"## {command}\n\n{_table(rows)}")
    return "\n".join(parts)


def undocumented() -> list[str]:
    """Return the keys of `conf/` that no comment explains, as `FILE: KEY`."""
    missing = set()
    for command in ("train", *OTHERS):
        sentences = keys.sentences(command)
        of_groups = [path for group in keys.groups(command) for path in keys.files(group.name)]
        for path in [keys.conf_folder() / f"{command}.yaml", *of_groups]:
            missing |= {
                f"{path.relative_to(keys.conf_folder())}: {key.name}"
                for key in keys.of_file(path)
                if _is_for_users(key, command) and not sentences.get(key.name)
            }
    return sorted(missing)


def _is_for_users(key: Key, command: str) -> bool:
    """Whether users set a key: a run does not compute it, and it is more than the class of a `_target_`."""
    is_computed = "${" in str(key.default) and not usage.OF_ENVIRONMENT.fullmatch(str(key.default))
    return keys.is_public(key.name, command) and not is_computed


def _keys_of(command: str) -> list[Key]:
    """Return the keys of a command's own file, without the heads of its sections."""
    of_file = keys.of_file(keys.conf_folder() / f"{command}.yaml")
    return [key for key in of_file if _is_for_users(key, command) and not _is_head(key, of_file)]


def _is_head(key: Key, others: Iterable[Key]) -> bool:
    return any(other.name.startswith(f"{key.name}.") for other in others)


def _rows_of_group(group: str, prefix: str) -> list[Row]:
    """Return a row for each key of a group's files and each comment on it, with the defaults and their files."""
    paths = _files(group)
    sentences = keys.sentences("train")
    files: dict[str, dict[str, dict[str, list[str]]]] = {}  # by key, comment and default
    for path in paths:
        of_file = keys.of_file(path)
        for key in of_file:
            if key.name.startswith(prefix) and _is_for_users(key, "train") and not _is_head(key, of_file):
                sentence = key.sentence or sentences.get(key.name, "")
                of_key = files.setdefault(key.name, {}).setdefault(sentence, {})
                of_key.setdefault(_shown(key.default), []).append(path.stem)
    return [
        (name, _default(by_value, [path.stem for path in paths]), sentence)
        for name, by_sentence in files.items()
        for sentence, by_value in by_sentence.items()
    ]


def _default(files_by_value: Mapping[str, Sequence[str]], all_files: Sequence[str]) -> str:
    """Return the defaults of a key with their files, unless all files or the default one alone have it."""
    if len(files_by_value) > MOST_VALUES:
        return "each file has its own"
    if len(files_by_value) == 1 and [*files_by_value.values()] in ([all_files], [all_files[:1]]):
        return next(iter(files_by_value))
    return ", ".join(
        f"{value} ({', '.join(names) if len(names) <= MOST_FILES else f'{len(names)} files'})"
        for value, names in files_by_value.items()
    )


def _table(rows: Iterable[Row]) -> str:
    lines = [f"| `{name}` | {_cell(default)} | {_cell(sentence)} |" for name, default, sentence in rows]
    return "\n".join(["| key | default | what it is |", "| --- | --- | --- |", *lines, ""])


def _shown(value: object) -> str:
    """Return a default as it is typed; `$NAME` for an environment variable, and its default."""
    if isinstance(value, str):
        if variable := usage.OF_ENVIRONMENT.fullmatch(value):
            return f"`${variable[1]}`, else `{variable[2]}`"
        return "required" if value == "???" else f"`{value or EMPTY}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{yaml.safe_dump(value).splitlines()[0]}`"


def _defaults(command: str) -> dict[str, str]:
    """Return the default file of each group of a command."""
    entries = keys.values(keys.conf_folder() / f"{command}.yaml")["defaults"]
    return {group: str(name) for entry in entries if isinstance(entry, dict) for group, name in entry.items()}


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _capitalized(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
