import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.small import DRAWN, SMALL

# Small networks on a shared machine: more threads only wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn and decoded images that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run_in(cache: Path) -> Callable[..., dict[str, Any]]:
    """Runs a small experiment in this process; `run_in(FOLDER, "optim=adam")` returns its summary."""
    from hydra import compose, initialize_config_dir

    from intel_scenes.sweeps.names import conf_folder
    from intel_scenes.training import run as experiment

    def small(folder: Path, *overrides: str, **options: Any) -> dict[str, Any]:
        images = () if any(text.startswith("data=") for text in overrides) else DRAWN
        typed = [*images, *SMALL, f"data.cache_dir={cache}", *overrides]
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            cfg = compose("train", typed)
        return experiment.run(cfg, folder, choices={}, overrides=typed, composition_digest="", **options)

    return small


@pytest.fixture
def run(run_in: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The same in a folder of the test: `run("optim=adam", folder=...)`."""
    return lambda *overrides, folder=tmp_path / "run", **options: run_in(folder, *overrides, **options)


@pytest.fixture
def on_threads() -> Iterator[Callable[[int], None]]:
    """`on_threads(4)` gives torch that many until the test is over."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real Intel scenes."""
    if not os.environ.get("INTEL_SCENES_DATA"):
        pytest.skip("needs the real images: set INTEL_SCENES_DATA to the folder that holds seg_train and seg_test")
    return Path(os.environ["INTEL_SCENES_DATA"])
