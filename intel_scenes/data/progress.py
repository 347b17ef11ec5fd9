"""Progress of long work on many images."""

import sys
from typing import NoReturn

from tqdm import tqdm


def bar(total: int, what: str) -> "tqdm[NoReturn]":
    """A bar on stderr; where that is a file, a few lines instead of one for each step."""
    return tqdm(total=total, desc=what, unit="image", mininterval=0.1 if sys.stderr.isatty() else 10.0)
