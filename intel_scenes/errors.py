"""The error that a user can cause and mend, and the help it gives with spelling."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something a user can mend: one sentence that says what is wrong, where, and what to do.

    Commands show the sentence without a traceback and exit with status 1.
    """


class MissingKey(UserError):
    """A configuration lacks a key that every run needs.

    Attributes:
        key: Its dotted name, or that of a section.
    """

    def __init__(self, key: str) -> None:
        """Of a key, as the files and overrides of a command lack it."""
        super().__init__(f"every run needs {key}, and no file or override sets it: ++{key}=VALUE does")
        self.key = key


class Refused(UserError):
    """A folder holds another run than the one that is asked for, and is left as it is."""


class Busy(UserError):
    """Another process holds the run."""


class Twin(UserError):
    """Another folder of the sweep holds the very same run.

    Attributes:
        of: Name of that folder.
    """

    def __init__(self, message: str, of: str) -> None:
        """A sentence as of every UserError, and the folder."""
        super().__init__(message)
        self.of = of


def first_line(error: BaseException) -> str:
    """An exception as one sentence: its own where it is ours, else its kind and the first line of what it says."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, in the plural but for one: `1 image`, `1,200 images`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """` (did you mean A or B?)` with the choices that are spelt much like a word, or nothing."""
    near = difflib.get_close_matches(word, list(choices))
    return f" (did you mean {' or '.join(near)}?)" if near else ""
