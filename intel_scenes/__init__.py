"""Compare backbones, optimizers and schedulers on Intel scenes.

`intel-scenes --help` lists the commands. The same from Python:

    from intel_scenes import load_run, load_study, start_run

    run = start_run(["model=resnet18", "data.root=FOLDER"])  # trains like the command, or returns the finished run
    run = load_run("latest")  # or a folder, or the beginning of a run's name
    run.summary.test_accuracy
    run.predict("photos").to_pandas()
    network = run.network()  # an nn.Module with its preprocessing
    print(load_study("multirun/optimizers").answer)

`start_run`, `load_run` and `load_study` return a `Run` or a `Study`; their tables are `Table`s, columns of numpy arrays
by name. Errors that a user can fix are raised as a `UserError` with one sentence. All else in this package is private.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intel_scenes.errors import UserError
    from intel_scenes.inference.run import Run, load_run
    from intel_scenes.inference.scene_network import SceneNetwork
    from intel_scenes.start import start_run
    from intel_scenes.studies.study import Study, load_study
    from intel_scenes.table import Table

__all__ = ["Run", "SceneNetwork", "Study", "Table", "UserError", "load_run", "load_study", "start_run"]

__version__ = version("intel-scenes")

# Imported on first use: some import torch, which `--help` need not wait for.
_PLACES = {
    **dict.fromkeys(("Run", "load_run"), "inference.run"),
    **dict.fromkeys(("Study", "load_study"), "studies.study"),
    **{"SceneNetwork": "inference.scene_network", "start_run": "start", "Table": "table", "UserError": "errors"},
}

if not TYPE_CHECKING:  # with __getattr__, a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Return a public name from its module."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted([*globals(), *__all__])
