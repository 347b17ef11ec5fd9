import pytest
import torch

from intel_scenes.config import TrainerConfig
from intel_scenes.runtime import (
    emulates,
    num_devices,
    resolve_precision,
    resolve_threads,
    runtime_of_machine,
    runtime_of_trainer,
)


def trainer(**others: object) -> TrainerConfig:
    own = {"accelerator": "auto", "devices": 1, "precision": "auto", "enable_progress_bar": False}
    fields = own | {key: value for key, value in others.items() if key in own}
    return TrainerConfig(**fields, others={key: value for key, value in others.items() if key not in own})


def test_threads_are_those_of_the_option_or_at_least_one() -> None:
    assert resolve_threads(3) == 3
    assert resolve_threads(None) >= 1


def test_precision_on_a_cpu_is_float32_by_default() -> None:
    assert resolve_precision("auto", "cpu") == "32-true"
    assert resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"


@pytest.mark.parametrize(
    ("capabilities", "precision", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, "bf16-mixed", True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, "bf16-mixed", False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, "32-true", False),
        ({"architecture": "aarch64"}, "bf16-mixed", False),
    ],
)
def test_a_cpu_emulates_a_precision_without_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], precision: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert emulates(precision, torch.device("cpu")) is expected


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_on_a_gpu_is_bfloat16_if_supported(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert resolve_precision("auto", "auto") == expected
    assert resolve_precision("auto", "gpu") == expected
    assert resolve_precision("auto", "cpu") == "32-true"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        *(({"devices": devices}, 1) for devices in (1, "1", (3,), "3,")),
        *(({"devices": devices}, 2) for devices in (2, "2", (0, 1), "0,1")),
        *(({"devices": devices, "accelerator": "cpu"}, 1) for devices in ("auto", -1, "-1")),
        *(({"devices": devices}, 4) for devices in ("auto", -1, "-1")),
        ({"devices": 1, "num_nodes": 2}, 2),
        ({"devices": 1, "strategy": "ddp"}, 1),
        ({"devices": -1, "strategy": "ddp", "accelerator": "cpu"}, 2),
    ],
)
def test_devices_are_counted_as_lightning_reads_them(monkeypatch, arguments, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert num_devices(trainer(**arguments)) == expected


def test_a_run_on_a_cpu_has_one_process() -> None:
    one = runtime_of_trainer(trainer(accelerator="cpu", precision="bf16"), threads=2)
    assert (one.device, one.precision, one.threads) == (torch.device("cpu"), "bf16-mixed", 2)
    assert one.num_devices == 1
    with one.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_autocast_is_off_in_float32() -> None:
    with runtime_of_machine("32").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
