"""Memory of a run: what it keeps, its peak, and whether images fit on the device."""

import atexit
import ctypes
import gc
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import torch

_PROCESS = Path("/proc/self")  # on Linux
_CLEAR_REFS = _PROCESS / "clear_refs"
_measurable: set[torch.device] = set()  # whose peak could be reset
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)


def begin(device: torch.device) -> None:
    """Prepare the memory of this process for a training: keep what steps free, and measure the peak from now on."""
    keep_freed()
    reset_peak(device)


def keep_freed() -> None:
    """Make glibc keep the memory that a training step frees for the next step.

    By default it returns large blocks to the system at once, which then zeroes each page of them again: 12 % of the CPU
    time of a step of resnet18 at 64 px (4 to 15 %, an EPYC, 29 November 2026, `bench what=ablation`). Has no effect
    with other C libraries.
    """
    if (libc := _libc()) and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


@cache
def spare_imports() -> None:
    """Exclude imported objects from later garbage collections, which saves a quarter of a second for each of them.

    Takes effect once per process, before its first run, because the objects of a run must be collected. Undone when the
    process ends, for workers of a launcher: nanobind, which triton is built with, reports each object that survives the
    last collection. Commands discard that report, see `cli._free_nothing`.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)


def reset_peak(device: torch.device) -> None:
    """Free what earlier runs of this process held, and measure the peak from now on."""
    gc.collect()  # Lightning's objects form cycles, which hold the images
    if (libc := _libc()) and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _measurable.discard(device)
        with suppress(OSError):  # some kernels refuse it
            _CLEAR_REFS.write_text("5")  # proc_pid_clear_refs(5): resets the peak to the current value
            _measurable.add(device)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def is_resident(option: Literal["auto"] | bool, device: torch.device, num_bytes: int) -> bool:
    """Return whether images are kept on a device.

    Args:
        option: `data.device_resident`; `auto` keeps them on a GPU with four times as much free memory.
        device: Device of the training.
        num_bytes: Bytes of the images.
    """
    if option != "auto":
        return option
    return device.type == "cuda" and 4 * num_bytes <= torch.cuda.mem_get_info(device)[0]


def peak(device: torch.device) -> int | None:
    """Return the peak memory in bytes since `reset_peak`: of torch on a GPU, else of the process.

    None if the system reports only the peak since the process started, which may include other runs.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device in _measurable:
        status = dict(line.split(":", 1) for line in (_PROCESS / "status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024 if "VmHWM" in status else None
    return None
