"""What a run holds in memory, and what there is."""

import atexit
import ctypes
import gc
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import torch

_PROCESS = Path("/proc/self")  # of Linux
_CLEAR_REFS = _PROCESS / "clear_refs"
_known_peaks: set[torch.device] = set()
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)


def begin(device: torch.device) -> None:
    """Readies the memory of this process for a training: what steps free is kept, and the peak is counted from now."""
    keep_freed()
    reset_peak(device)


def keep_freed() -> None:
    """Lets glibc keep the memory that a training step frees for the next one.

    By itself it gives large blocks back at once, and the system then fills each page of them with zeros again: 12 %
    of the processor's time in a step of resnet18 at 64 px (4 to 15 %, an EPYC, 29 November 2026, `bench
    what=ablation`). With other C libraries this does nothing.
    """
    if (libc := _libc()) and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


@cache
def spare_imports() -> None:
    """Leaves out of later garbage collections what a command has imported: a quarter of a second for each of them.

    Once a process, before its first run: what a run holds must be collected. Thawed when the process ends, whose last
    collection must see everything: nanobind, which triton is built with, reports each object that survives it.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)


def reset_peak(device: torch.device) -> None:
    """Forgets what earlier runs of this process held, and gives it back."""
    gc.collect()  # Lightning's parts hold each other, and the images with them
    if (libc := _libc()) and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _known_peaks.discard(device)
        with suppress(OSError):  # not every kernel lets a process do that
            _CLEAR_REFS.write_text("5")  # proc_pid_clear_refs(5): the peak becomes what is held now
            _known_peaks.add(device)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def is_resident(asked: Literal["auto"] | bool, device: torch.device, num_bytes: int) -> bool:
    """Whether images of so many bytes are kept on a device.

    Args:
        asked: `auto` keeps them on a GPU that has four times as much free memory.
        device: Where the training is.
        num_bytes: Of the images.
    """
    if asked != "auto":
        return asked
    return device.type == "cuda" and 4 * num_bytes <= torch.cuda.mem_get_info(device)[0]


def peak(device: torch.device) -> int | None:
    """Bytes: on a GPU what torch held there, else what the process held in memory, both since `reset_peak`.

    None where the system tells only the peak of the whole process, which may have had other runs.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device in _known_peaks:
        status = dict(line.split(":", 1) for line in (_PROCESS / "status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024 if "VmHWM" in status else None
    return None
