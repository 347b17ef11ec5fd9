"""Parallel work on the images of a batch, in a thread pool."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch


def for_parts(work: Callable[[range], None], num_images: int) -> None:
    """Split the images into contiguous parts and process them in parallel, with as many threads as torch uses.

    torch's own threads do not help here, because a single image is too little work to share. The pool's threads run in
    parallel because torch and numpy kernels release the GIL. Each such call may then wait for the GIL, so `work` should
    make few of them.

    Args:
        work: Processes the images at the positions that it is called with.
        num_images: Total number of images.
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
    # One torch thread in each, or their kernels would compete for the cores; the calling thread keeps its setting.
    return ThreadPoolExecutor(num_threads, "images", initializer=torch.set_num_threads, initargs=(1,))
