"""The work of a batch, shared by threads of our own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch


def for_parts(work: Callable[[range], None], num_images: int) -> None:
    """Does the work of all images, a part of them on each of as many threads as torch has.

    Threads of our own, because an image is too little work for torch's: their kernels let other threads run. Each call
    that does so may wait for the interpreter afterwards: few are best.

    Args:
        work: Of the images at these positions.
        num_images: In all.
    """
    num_threads = max(1, min(torch.get_num_threads(), num_images))
    cuts = [num_images * part // num_threads for part in range(num_threads + 1)]
    parts = [range(*ends) for ends in pairwise(cuts)]
    if num_threads == 1:
        work(parts[0])
        return
    for _ in _pool(num_threads).map(work, parts):
        pass


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    # Each with one of torch's threads, or the kernels of all would share the cores again; the caller keeps its own.
    return ThreadPoolExecutor(num_threads, "images", initializer=torch.set_num_threads, initargs=(1,))
