"""Device, precision and number of threads of a run."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from intel_scenes.config import PRECISIONS, TrainerConfig
from intel_scenes.errors import UserError, first_line
from intel_scenes.sections import as_plain


@dataclass(frozen=True)
class Runtime:
    """Device, precision and threads to compute with.

    Attributes:
        device: Device of this process.
        precision: Precision by Lightning's name, such as `bf16-mixed`.
        threads: Torch's threads on the CPU.
        num_devices: Devices of the run, each with a process.
    """

    device: torch.device
    precision: str
    threads: int
    num_devices: int = 1

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the precision: `bf16-mixed` and `16-mixed` compute in 16 bits."""
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


def runtime_of_trainer(trainer: TrainerConfig, threads: int | None) -> Runtime:
    """Return the runtime that Lightning's Trainer would use; a Trainer is built, because its rules are its own.

    Raises:
        UserError: There is no such device, strategy or precision.
    """
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    bare = make_trainer(trainer, precision=precision, logger=False, enable_checkpointing=False)
    return Runtime(bare.strategy.root_device, precision, resolve_threads(threads), bare.world_size)


def runtime_of_machine(precision: int | str = "auto", threads: int | None = None) -> Runtime:
    """Return the runtime on the first GPU if there is one, else on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Runtime(device, resolve_precision(precision, "auto"), resolve_threads(threads))


def make_trainer(config: TrainerConfig, **others: Any) -> Trainer:  # noqa: ANN401
    """Build Lightning's Trainer.

    Args:
        config: Devices, precision and further arguments.
        others: Arguments that a run sets itself.

    Raises:
        UserError: The Trainer refuses its arguments.
    """
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    accelerator = _accelerator(config)
    if accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UserError(
            f"trainer.accelerator={accelerator}, but there is no GPU: set trainer=auto, which then uses the CPU"
        )
    # The progress bar is TrainingProgress.
    arguments = as_plain(config) | {
        "accelerator": accelerator,
        "enable_progress_bar": False,
    }
    # A run on one device has one process, even if a launcher started others: these have runs of their own.
    environment = LightningEnvironment() if num_devices(config) == 1 else cluster_environment()
    plugins = [*others.pop("plugins", []), environment]
    try:
        trainer = Trainer(**(arguments | others), plugins=plugins, enable_model_summary=False)
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer: {first_line(error)}; correct the keys of trainer") from error
    # Lightning takes the rank from the environment, even for the only process of a run, whose rank is 0.
    rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
    return trainer


def _accelerator(config: TrainerConfig) -> str:
    """Return the accelerator; `auto` is a CUDA device or the CPU, not Apple's MPS, on which nothing was tested."""
    return "cpu" if config.accelerator == "auto" and not torch.cuda.is_available() else config.accelerator


def cluster_environment() -> ClusterEnvironment:
    """Return the launcher of this process: torchrun, SLURM, or Lightning's own environment if there is none.

    Lightning's requeueing under SLURM is off, because its signal is left to the script that submitted the job.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else LightningEnvironment()


def num_devices(config: TrainerConfig) -> int:
    """Return the number of devices that a Trainer would use, without building one.

    A strategy with an open number of devices counts as at least two, because it is made for several.
    """
    devices, num_nodes = config.devices, config.num_nodes
    if isinstance(devices, str) and "," in devices:  # as in Lightning, "0,1" are two devices, and so is "2"
        return len([text for text in devices.split(",") if text]) * num_nodes
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices) * num_nodes
    if str(devices).isdigit():
        return int(devices) * num_nodes
    available = 1 if config.accelerator in ("cpu", "mps") else max(1, torch.cuda.device_count())
    return (max(2, available) if config.strategy else available) * num_nodes


def resolve_threads(threads: int | None) -> int:
    """Return the number of torch's threads on the CPU; None is one for each core that this process may use."""
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def emulates(precision: str, device: torch.device) -> bool:
    """Return whether a CPU emulates a precision in software, several times slower than float32.

    False if it is unknown: for torch before 2.14, and for CPUs other than x86.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    kinds = {"bf16-mixed": ("avx512_bf16", "amx_bf16"), "16-mixed": ("avx512_fp16", "amx_fp16")}.get(precision, ())
    is_known = device.type == "cpu" and capabilities.get("architecture") == "x86_64" and bool(kinds)
    return is_known and not any(capabilities.get(kind) for kind in kinds)


def resolve_precision(precision: int | str, accelerator: str) -> str:
    """Return Lightning's name of a precision; `auto` is bf16-mixed on a CUDA device with bfloat16, else 32-true."""
    if precision != "auto":
        return PRECISIONS[str(precision)]
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
