import json
import subprocess
import sys

import pytest

MEBIBYTE = 2**20
# In a process of its own: what other tests left in this one may be freed between two readings.
MEASURE = """
import json, numpy, torch
from intel_scenes.runs import memory
cpu = torch.device("cpu")
memory.reset_peak(cpu)
peaks = [memory.peak(cpu)]
large = numpy.ones(64 * 2**20, dtype=numpy.uint8)
peaks.append(memory.peak(cpu))
del large
peaks.append(memory.peak(cpu))
memory.reset_peak(cpu)
peaks.append(memory.peak(cpu))
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system tells the peak of a part of a process")
def test_the_peak_is_that_since_the_last_reset():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    before, held, freed, again = json.loads(done.stdout)
    assert held - before > 60 * MEBIBYTE
    assert abs(freed - held) < MEBIBYTE  # the kernel counts in batches of pages
    assert freed - again > 60 * MEBIBYTE
