"""Errors that a user can cause and fix, with suggestions for misspelled names."""

import difflib
from collections.abc import Iterable, Sequence
from errno import ENOMEM


class UserError(Exception):
    """Error that a user can fix: one sentence that says what is wrong, where, and what to do.

    Commands print the sentence without a traceback and exit with status 1.
    """


class MissingKey(UserError):
    """A configuration lacks a key that every run needs.

    Attributes:
        key: Dotted name of the key, or of a section.
    """

    def __init__(self, key: str) -> None:
        """Initialize with a key that no file or override of a command sets."""
        super().__init__(f"every run needs {key}, but no file or override sets it: set ++{key}=VALUE")
        self.key = key


class Refused(UserError):
    """A folder holds another run than the requested one, and is left unchanged."""


class Busy(UserError):
    """Another process is running the run."""


class Lost(UserError):
    """Another process of a run on several devices has ended."""

    def __init__(self) -> None:
        """Initialize with the sentence."""
        super().__init__(
            "another process of the run has ended: see its message, or, if there is none, it was killed, probably for "
            "lack of memory; repeat the command to resume the run"
        )


class Twin(UserError):
    """Another folder of the sweep holds the same run.

    Attributes:
        of: Name of that folder.
    """

    def __init__(self, message: str, of: str) -> None:
        """Initialize with the sentence and the name of the folder."""
        super().__init__(message)
        self.of = of


# Characters that move the cursor, colour, hide or reorder text on a terminal, or stand for a byte that is not UTF-8.
_ESCAPES = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"},
    **{code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))},
    **{0xDC00 + byte: f"\\x{byte:02x}" for byte in range(128, 256)},
}


def few(texts: Sequence[str], num: int = 4, separator: str = ", ") -> str:
    """Return the first texts, joined, and how many more there are; bytes of names that are not UTF-8 are escaped."""
    text = separator.join(texts[:num]) + (f" and {len(texts) - num} more" if len(texts) > num else "")
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """Return text with escapes for characters that a terminal should not get from a name."""
    return text.translate(_ESCAPES)


def first_line(error: BaseException) -> str:
    """Return an exception as one line: the sentence of a UserError, else the type and the first line of its message."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def lack_of_memory(error: BaseException) -> str | None:
    """Return what an error says if it says that memory is full, as one line; None for other errors."""
    at = str(error).find("DefaultCPUAllocator: can't allocate memory")  # torch has no class for it
    if at >= 0:
        return str(error)[at:].splitlines()[0]
    is_class = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # of torch, for GPUs
    return first_line(error) if is_class or (isinstance(error, OSError) and error.errno == ENOMEM) else None


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun, in the plural unless it is one: `1 image`, `1,200 images`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def percentage(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as the texts of all commands and pages write it, `92.4 %`, or `-` if it is unknown."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f} %"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ` (did you mean A or B?)` with the choices that are spelled like a word, or nothing."""
    near = difflib.get_close_matches(word, list(choices))
    return f" (did you mean {' or '.join(near)}?)" if near else ""
