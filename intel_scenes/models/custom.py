"""A network of one's own, by the class or function that makes it."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intel_scenes import files
from intel_scenes.errors import UserError, first_line
from intel_scenes.models.backbones import load, mark_heads, size_error
from intel_scenes.models.weights import Weights, read_state, unpublished

IMAGE_SIZE = 224  # pixels, where data.image_size says nothing

_IMPORTED: dict[str, str] = {}  # digests of the sources of modules, as they were imported


def resolve_weights(target: str, weights: str | None) -> Weights | None:
    """The weights in a file; None for random ones.

    Raises:
        UserError: Something else is asked for, or the file cannot be read.
    """
    return unpublished(target, weights, "", ())


def find_source(target: str) -> Path:
    """The file that defines `package.module.Class`, found on the path and in the current folder; nothing is imported.

    Raises:
        UserError: There is none.
    """
    search: list[str] | None = [*sys.path, str(Path.cwd())]
    origin = None
    importlib.invalidate_caches()
    for part in target.split(".")[:-1]:
        spec = PathFinder.find_spec(part, search)
        if spec is None:
            break
        origin = spec.origin
        search = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        if search is None:  # what follows is inside of the module
            break
    if origin is None or not origin.endswith(".py"):
        raise UserError(
            f"model._target_={target} is in no Python file of the current folder ({Path.cwd()}) or the installed "
            "packages: give package.module.Class"
        )
    return Path(origin)


def source_digest(target: str) -> str:
    """SHA-256 of the file that defines `package.module.Class`; what that file imports is not part of it.

    Raises:
        UserError: There is no such file.
    """
    return files.sha256(find_source(target))


def build(
    target: str, num_classes: int, *, weights: Weights | None, image_size: int, args: Mapping[str, Any]
) -> nn.Module:
    """Import a class or function and make the network for our classes.

    What takes `num_classes` is given their number; of anything else the last linear layer is replaced.

    Args:
        target: `package.module.Class`; the current folder is searched after the installed packages.
        num_classes: Number of logits.
        weights: What `resolve_weights` returned.
        image_size: Side of the images in pixels.
        args: Further arguments of the class or function.

    Raises:
        UserError: There is no such class, it cannot be called, makes no classifier of such images, or the weights do
            not fit.
    """
    make = find_callable(target)
    try:
        parameters = inspect.signature(make).parameters
        is_told = "num_classes" in parameters
        network = make(**args, **({"num_classes": num_classes} if is_told else {}))
    except Exception as error:  # it may be any
        raise UserError(f"{target} cannot be called ({first_line(error)}): see model.args for its arguments") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{target} makes a {type(network).__name__}: it must make a torch.nn.Module")
    linear = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not is_told:
        if not linear or not linear[-1][0]:
            raise UserError(f"{target} neither takes num_classes nor has a linear layer to replace: let it take one")
        name, last = linear[-1]
        head = nn.Linear(last.in_features, num_classes, bias=last.bias is not None)
        network.set_submodule(name, head)
        linear[-1] = (name, head)
    mark_heads(network, *_heads(network, linear[-1:], target, num_classes, image_size))
    if weights is not None:
        assert isinstance(weights.source, Path)
        load(network, target, read_state(weights.source), weights.source)
    return network


def find_callable(target: str) -> Callable[..., Any]:
    """Import the class or function itself.

    Raises:
        UserError: It cannot be imported.
    """
    digest = source_digest(target)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    parts = target.split(".")
    found: Any = None
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        if name in sys.modules and _IMPORTED.get(name, digest) != digest:
            del sys.modules[name]  # it was changed, or is another in this folder
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                continue
            raise UserError(f"{target} cannot be imported ({first_line(error)})") from error
        except Exception as error:  # it may be any
            raise UserError(f"{target} cannot be imported ({first_line(error)})") from error
        _IMPORTED[name] = digest
        for part in parts[end:]:
            found = getattr(found, part, None)
        break
    if not callable(found):
        raise UserError(
            f"there is no {target.rpartition('.')[2]} in {find_source(target)}: see model._target_={target}"
        )
    makes: Callable[..., Any] = found
    return makes


def _heads(
    network: nn.Module, last: list[tuple[str, nn.Linear]], target: str, num_classes: int, image_size: int
) -> list[str]:
    """The name of the linear layer that a network ends in, by what it makes of an image; none where it does not.

    Raises:
        UserError: It makes no logits of an image.
    """
    seen: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _, __, output: seen.append(output)) for _, layer in last]
    is_training = network.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:
        raise size_error(target, image_size, error, made_for=None) from error
    finally:
        network.train(is_training)
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"{target} makes {what} of one image, where logits of shape (1, {num_classes}) are needed: let it return "
            "them"
        )
    return [name for name, _ in last if len(seen) == 1 and seen[0] is logits]


def refuse_untrusted(target: str, folder: Path, *, trust: bool) -> None:
    """Refuses to import what a record names, unless the user trusts it.

    Raises:
        UserError: They do not say so.
    """
    if not trust:
        raise UserError(
            f"the network of {folder} is made by {target}, which would be imported from {find_source(target)}: add "
            "trust=true if you trust it"
        )


def check_unchanged(target: str, folder: Path, recorded: str | None) -> None:
    """Checks that the source of a network is still the one that its run was trained with.

    Raises:
        UserError: It is not.
    """
    if source_digest(target) != recorded:
        raise UserError(
            f"{find_source(target)} is no longer the source that {folder} was trained with: put that back, or train "
            "again"
        )
