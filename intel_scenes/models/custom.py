"""Custom networks: the user's own class or function that builds an `nn.Module`."""

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
from intel_scenes.errors import UserError, did_you_mean, first_line
from intel_scenes.models.backbones import load, mark_heads, size_error
from intel_scenes.models.weights import Weights, read_state, weights_of_file

IMAGE_SIZE = 224  # pixels, where data.image_size is not set

_IMPORTED: dict[str, str] = {}  # digest of the source of each module when it was imported


def resolve_weights(target: str, weights: str | None) -> Weights | None:
    """Return the weights in a file, or None for random weights.

    Raises:
        UserError: `weights` is not a file, or the file cannot be read.
    """
    return weights_of_file(target, weights, "", ())


def find_source(target: str) -> Path:
    """Return the file that defines `package.module.Class`, on sys.path or in the current folder; import nothing.

    Raises:
        UserError: No Python file defines it.
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
        if search is None:  # the remaining parts are names inside the module
            break
    if origin is None or not origin.endswith(".py"):
        near = did_you_mean(target.partition(".")[0], [path.stem for path in Path().glob("*.py")])
        raise UserError(
            f"model._target_={target} is in no Python file of the current folder ({Path.cwd()}) or the installed "
            f"packages{near}: write it as package.module.Class"
        )
    return Path(origin)


def source_digest(target: str) -> str:
    """Return the SHA-256 of the file that defines `package.module.Class`; files that it imports are not covered.

    Raises:
        UserError: No Python file defines it.
    """
    return files.sha256(find_source(target))


def build(
    target: str, num_classes: int, *, weights: Weights | None, image_size: int, args: Mapping[str, Any]
) -> nn.Module:
    """Import a class or function and build the network with a head for `num_classes` classes.

    A callable with a parameter `num_classes` is given the number; of any other network the last linear layer is
    replaced.

    Args:
        target: `package.module.Class`; the current folder is searched after the installed packages.
        num_classes: Number of logits.
        weights: What `resolve_weights` returned.
        image_size: Side of the images in pixels.
        args: Further arguments of the class or function.

    Raises:
        UserError: The class does not exist, cannot be called, or does not build a classifier of such images, or the
            weights do not fit.
    """
    builder = find_callable(target)
    try:
        parameters = inspect.signature(builder).parameters
        takes_num_classes = "num_classes" in parameters
        network = builder(**args, **({"num_classes": num_classes} if takes_num_classes else {}))
    except Exception as error:  # user code can raise anything
        raise UserError(f"{target} cannot be called ({first_line(error)}): set its arguments in model.args") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{target} returns a {type(network).__name__}, but must return a torch.nn.Module: change it")
    linear = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not takes_num_classes:
        if not linear or not linear[-1][0]:
            raise UserError(
                f"{target} has neither a parameter num_classes nor a linear layer to replace: add the parameter"
            )
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
    """Import a class or function by its dotted name.

    Raises:
        UserError: It cannot be imported.
    """
    digest = source_digest(target)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    parts = target.split(".")
    imported: Any = None
    near = ""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        if name in sys.modules and _IMPORTED.get(name, digest) != digest:
            del sys.modules[name]  # its source changed, or another folder has a module of this name
        try:
            imported = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                continue
            raise _not_importable(target, error) from error
        except Exception as error:  # user code can raise anything
            raise _not_importable(target, error) from error
        _IMPORTED[name] = digest
        near = did_you_mean(parts[end], [key for key, value in vars(imported).items() if callable(value)])
        for part in parts[end:]:
            imported = getattr(imported, part, None)
        break
    if not callable(imported):
        raise UserError(f"{find_source(target)} has no {'.'.join(parts[end:])}{near}: correct model._target_={target}")
    builder: Callable[..., Any] = imported
    return builder


def _not_importable(target: str, error: Exception) -> UserError:
    return UserError(f"{target} cannot be imported ({first_line(error)}): correct {find_source(target)}")


def _heads(
    network: nn.Module, last: list[tuple[str, nn.Linear]], target: str, num_classes: int, image_size: int
) -> list[str]:
    """Return the name of the linear layer whose output is the logits of an image; nothing if no layer's is.

    Raises:
        UserError: The network does not return logits of an image.
    """
    outputs: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _, __, output: outputs.append(output)) for _, layer in last]
    is_training = network.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:
        raise size_error(target, image_size, error, native_size=None) from error
    finally:
        network.train(is_training)
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        output = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"{target} returns {output} for one image, but must return logits of shape (1, {num_classes}): change its "
            "forward()"
        )
    return [name for name, _ in last if len(outputs) == 1 and outputs[0] is logits]


def refuse_untrusted(target: str, folder: Path, *, trust: bool) -> None:
    """Refuse to import the class that a record names unless the user trusts it.

    Raises:
        UserError: `trust` is false.
    """
    if not trust:
        raise UserError(
            f"the network of {folder} is built by {target}, which would be imported from {find_source(target)}: add "
            "trust=true if you trust that file"
        )


def check_unchanged(target: str, folder: Path, recorded: str | None) -> None:
    """Check that the source of a network is still the one that its run was trained with.

    Raises:
        UserError: The file has changed since.
    """
    if source_digest(target) != recorded:
        raise UserError(
            f"{find_source(target)} has changed since {folder} was trained: restore the file, or train again"
        )
