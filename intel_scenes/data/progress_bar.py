"""Progress of long work on many images."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn

from tqdm import tqdm

from intel_scenes.data.store import Batch

log = logging.getLogger(__name__)


def bar(total: int, what: str, *, is_brief: bool = False) -> "tqdm[NoReturn]":
    """A bar on stderr; where that is no terminal, one line that says what is being done, or none if it is brief."""
    is_terminal = sys.stderr.isatty()
    if not is_terminal and not is_brief:
        log.info("%s: %s", what, f"{total:,}")
    return tqdm(total=total, desc=what, unit="image", disable=not is_terminal, leave=not is_brief)


def shown(batches: Iterable[Batch], num_images: int, what: str) -> Iterator[Batch]:
    """Batches, with a bar that counts their images."""
    with bar(num_images, what, is_brief=True) as progress:
        for batch in batches:
            yield batch
            progress.update(len(batch.labels))
