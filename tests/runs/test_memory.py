import sys

import numpy as np
import pytest
import torch

from intel_scenes.runs import memory

CPU = torch.device("cpu")
MEBIBYTE = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system tells the peak of a part of a process")
def test_the_peak_is_that_since_the_last_reset():
    memory.reset_peak(CPU)
    before = memory.peak(CPU)
    assert before is not None
    large = np.ones(64 * MEBIBYTE, dtype=np.uint8)
    with_large = memory.peak(CPU)
    del large
    assert with_large - before > 60 * MEBIBYTE
    assert abs(memory.peak(CPU) - with_large) < MEBIBYTE  # the kernel counts in batches of pages
    memory.reset_peak(CPU)
    assert with_large - memory.peak(CPU) > 60 * MEBIBYTE
