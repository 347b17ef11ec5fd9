"""Progress bars on stderr for work that takes long."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn

from tqdm import tqdm

from intel_scenes.data.store import Batch
from intel_scenes.errors import counted

log = logging.getLogger(__name__)


def bar(total: int, task: str, *, unit: str = "image", is_brief: bool = False) -> "tqdm[NoReturn]":
    """Return a progress bar on stderr; where stderr is no terminal, log one line instead.

    Args:
        total: Number of units.
        task: What is being done, such as `decoding images`.
        unit: What is counted, in the singular.
        is_brief: Whether the task usually takes seconds: the bar is then removed at its end, and no line is logged.
    """
    is_terminal = sys.stderr.isatty()
    if not is_terminal and not is_brief:
        log.info("%s (%s)", task, counted(total, unit))
    return tqdm(total=total, desc=task, unit=f" {unit}s", disable=not is_terminal, leave=not is_brief)


def with_bar(batches: Iterable[Batch], num_images: int, task: str) -> Iterator[Batch]:
    """Yield the batches, with a progress bar that counts their images."""
    with bar(num_images, task, is_brief=True) as progress:
        for batch in batches:
            yield batch
            progress.update(len(batch.labels))
