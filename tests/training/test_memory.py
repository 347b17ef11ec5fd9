import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from intel_scenes.training import memory
from tests.small import DRAWN, SMALL

MEBIBYTE = 2**20
# In a process of its own, because memory of other tests may be freed between two readings.
MEASURE = """
import json, numpy, torch
from intel_scenes.training import memory
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

KEEP = """
import json, numpy, torch
from pathlib import Path
from intel_scenes.training import memory
def resident():
    return 1024 * int(next(line for line in Path("/proc/self/status").open() if line.startswith("VmRSS")).split()[1])
{begin}
readings = [resident()]
large = numpy.ones({mebibytes} * 2**20, dtype=numpy.uint8)
del large
readings.append(resident())
memory.reset_peak(torch.device("cpu"))
readings.append(resident())
print(json.dumps(readings))
"""

TRAINER = """
from intel_scenes.record import Origin
from intel_scenes.training.dry_run import dry_run
from tests.small import asked
dry_run(asked(*{overrides!r}), Origin())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no system tells the peak of a part of a process")
def test_the_peak_is_that_since_the_last_reset():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    before, held, freed, again = json.loads(done.stdout)
    assert held - before > 60 * MEBIBYTE
    assert abs(freed - held) < MEBIBYTE  # the kernel counts in batches of pages
    assert freed - again > 60 * MEBIBYTE


def test_a_peak_that_may_be_that_of_an_earlier_run_is_not_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    cpu = torch.device("cpu")
    memory.reset_peak(cpu)
    assert memory.peak(cpu) is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")
@pytest.mark.slow
def test_a_run_keeps_the_memory_that_its_steps_free(cache):
    begin = TRAINER.format(overrides=[*DRAWN, *SMALL, f"data.cache_dir={cache}"])
    code = KEEP.format(begin=begin, mebibytes=256)  # more than the steps left
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, kept, _ = json.loads(done.stdout)
    assert kept - before > 60 * MEBIBYTE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_between_runs():
    code = KEEP.format(begin="memory.keep_freed()", mebibytes=64)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, kept, given_back = json.loads(done.stdout)
    assert kept - before > 60 * MEBIBYTE
    assert given_back - before < 4 * MEBIBYTE
