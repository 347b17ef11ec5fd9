"""Atomic writing of files and tables, and digests of plain values."""

import csv
import hashlib
import io
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

# What a spreadsheet may read as a formula, and the same already marked as text by an apostrophe.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")

UMASK = os.umask(0o077)  # to read it is to set it
os.umask(UMASK)


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of plain values, which does not depend on the order of keys or on `1` and `1.0`."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: a reader, or a kill at any moment, finds the old file or the new one.

    The new content is on the disk before it takes the name. It is written beside the target, because a rename is atomic
    only within one file system.

    Args:
        path: Path of the file.
        content: Content, or a function that writes it.

    Raises:
        OSError: The content cannot be written; the old file is unchanged, and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~UMASK)  # `mkstemp` gives its files to the owner alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically; floats keep all digits that are needed to read them back unchanged.

    Text that a spreadsheet would read as a formula gets an apostrophe before it; `without_apostrophe` removes it.
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in itertools.chain([columns], rows):
        cells = [_as_text(cell) if isinstance(cell, str) else cell for cell in row]
        # Python before 3.13 leaves a carriage return unquoted, which ends the row for a reader.
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if has_return else plain).writerow(cells)
    write_whole(path, encoded(text.getvalue()))


def _as_text(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_apostrophe(cell: str) -> str:
    """Return the text of a cell that `write_csv` has written."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def encoded(text: str) -> bytes:
    """Return text in UTF-8, with escapes for bytes of file names that are not UTF-8."""
    return text.encode(errors="backslashreplace")


def now() -> str:
    """Return the present time as records hold it: ISO 8601, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys: `{"optim": {"lr": 0.1}}` becomes `{"optim.lr": 0.1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the differences of two configurations, as `key (value there, value here)`, sorted by key."""
    old, new = flatten(there), flatten(here)
    missing = "nothing"
    return [
        f"{key} ({shown(old.get(key, missing))} there, {shown(new.get(key, missing))} here)"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing)
    ]


def yaml_word(text: str) -> str:
    """Return the text of a Python value with `true`, `false` and `null` as YAML writes them."""
    return {"True": "true", "False": "false", "None": "null"}.get(text, text)


def shown(value: object) -> object:
    """Return a value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return list(value) if isinstance(value, tuple) else value
