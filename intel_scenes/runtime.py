"""Where a run computes, how precisely, and on how many threads."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from intel_scenes.config import PRECISIONS, TrainerConfig
from intel_scenes.errors import UserError, first_line
from intel_scenes.sections import as_plain


@dataclass(frozen=True)
class Runtime:
    """Where and how to compute.

    Attributes:
        device: Of this process.
        precision: As Lightning names it.
        threads: Of torch on the CPU.
        num_devices: Of the run, with a process on each.
        is_first: Whether this is the only process of the run, or the first of several.
    """

    device: torch.device
    precision: str
    threads: int
    num_devices: int = 1
    is_first: bool = True

    def autocast(self) -> torch.autocast:
        """The precision: "bf16-mixed" and "16-mixed" compute in sixteen bits."""
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


def runtime_of_trainer(trainer: TrainerConfig, threads: int | None) -> Runtime:
    """Where Lightning's Trainer would compute: it is asked, because its rules for devices and processes are its own.

    Raises:
        UserError: There is no such device, strategy or precision.
    """
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    bare = make_trainer(trainer, precision=precision, logger=False, enable_checkpointing=False)
    return Runtime(bare.strategy.root_device, precision, resolve_threads(threads), bare.world_size, bare.is_global_zero)


def runtime_of_machine(precision: int | str = "auto", threads: int | None = None) -> Runtime:
    """The first GPU where there is one, else the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Runtime(device, resolve_precision(precision, "auto"), resolve_threads(threads))


def make_trainer(config: TrainerConfig, **others: Any) -> Trainer:  # noqa: ANN401
    """Lightning's Trainer.

    Args:
        config: Where to compute, and further arguments.
        others: Arguments that a run sets itself.

    Raises:
        UserError: It cannot be made.
    """
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    accelerator = _accelerator(config)
    if accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UserError(f"trainer.accelerator={accelerator}: no GPU is found; trainer=auto takes what there is")
    arguments = as_plain(config) | {"accelerator": accelerator, "enable_progress_bar": False}  # the bar is ours
    plugins = [*others.pop("plugins", []), *_cluster(config)]
    try:
        trainer = Trainer(**(arguments | others), plugins=plugins, enable_model_summary=False)
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer: {first_line(error)}") from error
    # Lightning numbers the process by the environment, though it may be alone: then it is the first.
    rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
    return trainer


def _accelerator(config: TrainerConfig) -> str:
    """As asked for, but for Apple's MPS, which Lightning would take by itself, and on which nothing was tried."""
    return "cpu" if config.accelerator == "auto" and not torch.cuda.is_available() else config.accelerator


def is_on_cpu(config: TrainerConfig) -> bool:
    """Whether a run trains on the CPU."""
    return _accelerator(config) == "cpu"


def _cluster(config: TrainerConfig) -> list[ClusterEnvironment]:
    """What tells the processes of a run from each other, where Lightning's own choice would not do.

    A run on one device is alone, whatever tasks SLURM counts beside it: they have runs of their own. Several devices
    under SLURM go without Lightning's way to queue a job again: its signal belongs to who submitted the job.
    """
    if num_devices(config) == 1:
        return [LightningEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def num_devices(config: TrainerConfig) -> int:
    """On how many devices a Trainer would run, with a process on each, before one is made.

    A strategy whose devices are left open counts as two at least: it is made for several.
    """
    devices, asked = config.devices, config.others.get("num_nodes")
    num_nodes = asked if isinstance(asked, int) else 1  # the Trainer tells of anything else
    if isinstance(devices, str) and "," in devices:  # as Lightning reads it: "0,1" are two, "2" are two as well
        return len([text for text in devices.split(",") if text]) * num_nodes
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices) * num_nodes
    if str(devices).isdigit():
        return int(devices) * num_nodes
    there = 1 if config.accelerator in ("cpu", "mps") else max(1, torch.cuda.device_count())
    return (max(2, there) if config.strategy else there) * num_nodes


def resolve_threads(asked: int | None) -> int:
    """Threads of torch on the CPU: those that are asked for, or one for each core that this process may use."""
    if asked is not None:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def emulates(precision: str, device: torch.device) -> bool:
    """Whether a processor computes a precision without instructions for it, several times slower than float32.

    False where it is not known: for torch before 2.14, and for other processors than those of x86.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    kinds = {"bf16-mixed": ("avx512_bf16", "amx_bf16"), "16-mixed": ("avx512_fp16", "amx_fp16")}.get(precision, ())
    is_known = device.type == "cpu" and capabilities.get("architecture") == "x86_64" and bool(kinds)
    return is_known and not any(capabilities.get(kind) for kind in kinds)


def resolve_precision(asked: int | str, accelerator: str) -> str:
    """Lightning's name of the precision; `auto` is bf16-mixed on a CUDA device that computes bfloat16, else 32-true."""
    if asked != "auto":
        return PRECISIONS[str(asked)]
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
