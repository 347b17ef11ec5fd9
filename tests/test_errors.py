import re
from pathlib import Path

import numpy as np
import pytest
import torch

import intel_scenes
from intel_scenes.errors import did_you_mean, lack_of_memory, percentage
from intel_scenes.hydra_errors import sentence


def test_words_spelt_alike_are_named_and_others_are_not():
    assert did_you_mean("adamv", ["sgd", "adamw"]) == " (did you mean adamw?)"
    assert did_you_mean("adamv", ["sgd", "rmsprop"]) == ""


def test_a_percentage_has_a_blank_before_its_sign_in_all_texts():
    assert [percentage(0.924), percentage(0.9249, 2), percentage(1, 0), percentage(None)] == [
        *("92.4 %", "92.49 %", "100 %", "-")
    ]
    modules = Path(intel_scenes.__file__).parent.rglob("*.py")  # `:.1%` of a format writes no blank
    assert [path.name for path in modules if re.search(r"\.\d%}", path.read_text())] == []


def test_full_memory_is_one_sentence_in_every_command():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60, dtype=torch.uint8)
    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1152921504606846976 bytes."
    assert str(lack_of_memory(of_torch.value)).startswith(said)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, np.uint8)
    assert "Unable to allocate 1.00 EiB" in str(lack_of_memory(of_numpy.value))
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    assert sentence(on_gpu, "predict", []) == (
        "out of memory (OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.): lower the batch size or "
        "the image size, or choose another model"
    )
    assert lack_of_memory(RuntimeError("shapes differ")) is None
