"""What a run holds in memory, and what there is."""

from pathlib import Path

import torch

_PROCESS = Path("/proc/self")  # of Linux


def reset_peak(device: torch.device) -> None:
    """Forgets what earlier runs of this process held."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _PROCESS.exists():
        (_PROCESS / "clear_refs").write_text("5")  # proc_pid_clear_refs(5): the peak becomes what is held now


def has_room(device: torch.device, num_bytes: int) -> bool:
    """Whether an accelerator with memory of its own would keep three quarters of what is free there."""
    return device.type == "cuda" and 4 * num_bytes <= torch.cuda.mem_get_info(device)[0]


def peak(device: torch.device) -> int | None:
    """Bytes: on a GPU what torch held there, else what the process held in memory, both since `reset_peak`.

    None where the system tells only the peak of the whole process, which may have had other runs.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _PROCESS.exists():
        status = dict(line.split(":", 1) for line in (_PROCESS / "status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    return None
