import atexit
import gc
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from intel_scenes.record import Summary
from tests.small import DRAWN, SMALL

# Small networks on a shared machine: more threads only wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A process of several that ends makes the others log lost connections.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def pytest_configure() -> None:
    """Ends the process without reports of objects that were left out of garbage collections."""
    atexit.register(gc.unfreeze)  # see intel_scenes.training.memory.spare_imports


@pytest.fixture(autouse=True, scope="module")
def _spared_objects() -> None:
    """Leaves what the tests so far imported and keep out of garbage collections, of which each run makes several."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn and decoded images that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run_in(cache: Path) -> Callable[..., Summary | None]:
    """Runs a small experiment in this process; `run_in(FOLDER, "optim=adam")` returns its summary.

    Its curves are a blank picture, because plotting takes a fifth of its time; commands and `test_curves` plot them.
    """
    from intel_scenes.record import Origin
    from intel_scenes.training import best_epoch
    from intel_scenes.training.claim import Place
    from intel_scenes.training.run import run
    from tests.small import asked

    blank = io.BytesIO()
    Image.new("RGB", (1, 1)).save(blank, "png")

    def small(folder: Path, *overrides: str, siblings: Path | None = None, **options: Any) -> Summary | None:
        images = () if any(text.startswith("data=") for text in overrides) else DRAWN
        typed = [*images, *SMALL, f"data.cache_dir={cache}", *overrides]
        config = asked(*typed)
        place = Place(folder, siblings, replaces_changed=config.sweep.redo == "changed")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(best_epoch, "plot_curves", lambda _: blank.getvalue())
            return run(config, place, Origin(overrides=tuple(typed)), **options)

    return small


@pytest.fixture
def run(run_in: Callable[..., Summary | None], tmp_path: Path) -> Callable[..., Summary | None]:
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
