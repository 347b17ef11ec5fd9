"""A configuration as plain values: checked, resolved by stated rules, and digested."""

import json
import logging
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from intel_scenes import files, record
from intel_scenes.data.batches import VIEWS
from intel_scenes.errors import UserError, did_you_mean, first_line
from intel_scenes.known_keys import check_keys, unknown_keys
from intel_scenes.training.images import view_of

log = logging.getLogger(__name__)

Plain = Mapping[str, Any]

# Arguments of Lightning's Trainer on which the record relies, and what to set in their place.
RESERVED = {
    "max_epochs": "epochs",
    "min_epochs": "epochs",
    "max_steps": "epochs",
    "min_steps": "epochs",
    "max_time": "epochs",
    "fast_dev_run": "trainer=debug",
    "logger": "the logger group",
    "callbacks": "recipe keys",
    "default_root_dir": "hydra.run.dir",
    "enable_checkpointing": "keep_last",
    "val_check_interval": "epochs",
    "check_val_every_n_epoch": "epochs",
    "overfit_batches": "++trainer.limit_train_batches",
    "limit_val_batches": "data.val_fraction",
    "num_sanity_val_steps": "trainer.limit_train_batches",
    "use_distributed_sampler": "data.batch_size",
    "plugins": "trainer.precision",
}
SCALINGS: dict[str, Callable[[float], float]] = {
    "none": lambda batches: 1.0,
    "linear": lambda batches: batches,
    "sqrt": math.sqrt,
}
REFERENCE_BATCH_SIZE = 32
MOST_ENLARGED = 8  # times; beyond, a batch takes gigabytes and shows nothing more
# Those under which images stay float32 on their way in. Lightning takes either spelling of each; equal runs should have
# equal digests.
PRECISIONS = {
    **{"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"},
    **{name: name for name in ("32-true", "16-mixed", "bf16-mixed")},
}

# Known by what they came to: the weights, the images, the resolved threads and precision.
OF_CIRCUMSTANCES = ("model.weights", "data.exclude", "threads", "trainer.precision")
# Keys that came after the first records, and the value under which a run is what it was before: a record without the
# key has that value, and the value is not hashed.
ADDED_LATER: dict[str, object] = {"data.store_rule": "square"}
COUNTS = (
    *("epochs", "data.batch_size", "data.store_size", "data.num_train", "data.num_test"),
    *("threads", "data.image_size", "trainer.accumulate_grad_batches"),
)
SEEDS = ("seed", "data.split_seed", "data.drawing_seed")
OPEN = ("threads", "data.image_size")  # null leaves them to a rule

# Values of recipe keys under which they do nothing, as they must where the backbone is frozen.
WITHOUT_BACKBONE = {
    **{"head_lr_scale": 1, "first_lr_scale": 1, "head_first": False, "trains_norms": True},
    **{"mixup": 0, "cutmix": 0, "train_size": None, "views": 1},
}
WITHOUT_WEIGHTS = {"head_first": False, "first_lr_scale": 1.0}  # what these recipe keys come to for random weights


def check(plain: Plain) -> None:
    """Checks what can be known before any image or weight is read.

    Raises:
        UserError: Nothing takes a key, a value is out of range or misspelt, or an option has no effect in this
            combination.
    """
    check_keys(plain)
    check_images(plain)
    recipe, optim = plain["recipe"], plain["optim"]
    _positive("optim.lr", optim.get("lr"))
    _positive("lr_scale", plain["lr_scale"])
    _check_budget(plain)
    if optim.get("weight_decay") is not None:
        _within("optim.weight_decay", optim["weight_decay"], 0, math.inf)
    for key in ("compile", "dry_run", "keep_last"):
        _one_of(key, plain[key], (True, False))
    _one_of("lr_scaling", plain["lr_scaling"], SCALINGS)
    if plain["sweep"]["redo"] is not None:
        _one_of("sweep.redo", plain["sweep"]["redo"], ("changed",))
    _one_of("scheduler.interval", plain["scheduler"]["interval"], ("step", "epoch", "validation"))
    resolve_precision(plain["trainer"]["precision"], plain["trainer"]["accelerator"])
    _check_trainer(plain["trainer"])
    _check_recipe(recipe, plain["epochs"] if plain["budget_minutes"] is None else math.inf)
    _check_sizes(plain)
    if recipe["trained"] == "head":
        _check_head_alone(plain)
    _check_scheduler(plain)


def check_images(plain: Plain) -> None:
    """Checks what says which images are taken and how they are seen, and every count and seed.

    Raises:
        UserError: A value is out of range or misspelt, or an option has no effect in this combination.
    """
    _check_integers(plain)
    data = plain["data"]
    _within("data.val_fraction", data["val_fraction"], 0, 1, open_ends=True)
    if data["crop_fraction"] is not None:
        _within("data.crop_fraction", data["crop_fraction"], 0.01, 1)
    _one_of("data.on_unreadable", data["on_unreadable"], ("error", "skip"))
    _one_of("data.device_resident", data["device_resident"], ("auto", True, False))
    _one_of("data.source", data["source"], ("intel", "folder", "synthetic"))
    _one_of("data.store_rule", data["store_rule"], ("square", "whole"))
    if data["source"] == "synthetic" and data["root"] is not None:
        raise UserError("data.root has no effect with data=synthetic, which draws below data.cache_dir: leave one out")


def check_audit(plain: Plain) -> None:
    """Checks the configuration of an audit.

    Raises:
        UserError: Nothing takes a key, a value is out of range or misspelt, or an option has no effect in this
            combination.
    """
    check_keys(plain, "audit")
    check_images(plain)
    resolve_precision(plain["precision"], "auto")
    _within("near", plain["near"], 0, 1)
    _within("flip", plain["flip"], 0, 0.5)
    if type(plain["folds"]) is not int or plain["folds"] < 2:
        raise UserError(f"folds={plain['folds']} must be a whole number of at least 2")
    if not isinstance(plain["output"], str) or not plain["output"]:
        raise UserError(f"output={plain['output']} must be the name of a folder")
    _one_of("exclude.labels", plain["exclude"]["labels"], (True, False))
    if plain["flip"] and plain["exclude"]["labels"]:
        raise UserError(f"exclude.labels=true would list labels that flip={plain['flip']} made wrong: leave one out")


def _check_trainer(trainer: Plain) -> None:
    for name, instead in RESERVED.items():
        if name in trainer:
            raise UserError(f"trainer.{name} would make the record untrue: leave it out and use {instead}")
    strategy = str(trainer.get("strategy"))
    if any(kind in strategy for kind in ("spawn", "fork", "notebook")):
        raise UserError(
            f"trainer.strategy={strategy} trains in processes that cannot hand the run's record back: "
            "use trainer.strategy=ddp"
        )
    limit = trainer.get("limit_train_batches", 1.0)
    if type(limit) is int:
        _positive("trainer.limit_train_batches", limit)
    else:
        _within("trainer.limit_train_batches", limit, 1e-9, 1)


def _check_budget(plain: Plain) -> None:
    if plain["budget_minutes"] is None:
        return
    _positive("budget_minutes", plain["budget_minutes"])
    if plain["compile"]:
        raise UserError("budget_minutes is measured without compiling: leave compile out, or set epochs instead")
    if plain["recipe"]["trained"] == "head":
        raise UserError("budget_minutes is for whole networks: an epoch of a head is over before it can be measured")


def _check_sizes(plain: Plain) -> None:
    recipe, data = plain["recipe"], plain["data"]
    stored = data["store_size"] or view_of(plain).resize
    sizes = recipe["train_size"] if isinstance(recipe["train_size"], list) else [recipe["train_size"]]
    for key, size in [*(("recipe.train_size", size) for size in sizes), ("data.image_size", data["image_size"])]:
        if size is not None and size > MOST_ENLARGED * stored:
            raise UserError(
                f"{key}={size} enlarges images of data.store_size={stored} more than "
                f"{MOST_ENLARGED} times: lower it, or store larger images"
            )


def _check_recipe(recipe: Plain, epochs: float) -> None:
    _positive("recipe.head_lr_scale", recipe["head_lr_scale"])
    _within("recipe.first_lr_scale", recipe["first_lr_scale"], 1e-9, 1)
    _within("recipe.label_smoothing", recipe["label_smoothing"], 0, 1)
    for key in ("mixup", "cutmix"):
        _within(f"recipe.{key}", recipe[key], 0, 100)
    if recipe["ema_decay"] is not None:
        _within("recipe.ema_decay", recipe["ema_decay"], 0, 1, open_ends=True)
    for key in ("head_first", "trains_norms"):
        _one_of(f"recipe.{key}", recipe[key], (True, False))
    _one_of("recipe.trained", recipe["trained"], ("all", "head"))
    _one_of("recipe.views", recipe["views"], VIEWS)
    sizes = recipe["train_size"] if isinstance(recipe["train_size"], list) else [recipe["train_size"] or 1]
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise UserError(f"recipe.train_size={recipe['train_size']} must be a number of pixels, or a list of such")
    if len(sizes) > epochs:
        raise UserError(
            f"recipe.train_size={sizes} has more sizes than epochs={epochs}: train longer, or give fewer sizes"
        )


def _check_head_alone(plain: Plain) -> None:
    if plain["augment"] != {"scale": [1, 1], "ratio": [1, 1], "flip": 0, "policy": None}:
        raise UserError(
            "augment has no effect with recipe.trained=head, which computes features of the images as they are: "
            "set augment=none"
        )
    if plain["compile"]:
        raise UserError("compile=true has no effect with recipe.trained=head: leave it out")
    for key, neutral in WITHOUT_BACKBONE.items():
        if plain["recipe"][key] != neutral:
            raise UserError(f"recipe.{key} has no effect with recipe.trained=head: leave it at {json.dumps(neutral)}")


def _check_scheduler(plain: Plain) -> None:
    for key, value in files.flatten(plain["scheduler"]).items():
        if key.rpartition(".")[2] in ("gamma", "step_size"):
            _positive(f"scheduler.{key}", value)
    if plain["budget_minutes"] is None:
        warn_of_late_steps(plain)


def warn_of_late_steps(plain: Plain) -> None:
    """Says where a schedule of steps does nothing in so few epochs."""
    step_size = plain["scheduler"]["factory"].get("step_size", 0)
    if step_size >= plain["epochs"]:
        log.warning(
            "scheduler.factory.step_size=%s is beyond the last of %s epochs: the rate stays", step_size, plain["epochs"]
        )


def _check_integers(plain: Plain) -> None:
    values, data = files.flatten(plain), plain["data"]
    # The network's own size is for photographs: squares are stored for all networks, and drawn in their size.
    is_network_size = data["store_rule"] == "whole" and data["source"] != "synthetic"
    open_keys = (*OPEN, "data.store_size") if is_network_size else OPEN
    for keys, least in ((COUNTS, 1), (SEEDS, 0)):
        for key in keys:
            value = values.get(key, least)
            is_open = value is None and key in open_keys
            if not is_open and (type(value) is not int or value < least):
                raise UserError(f"{key}={value} must be a whole number of at least {least}")


def _positive(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{key}={value} must be a number above 0")


def _within(key: str, value: object, low: float, high: float, *, open_ends: bool = False) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (low < value < high if open_ends else low <= value <= high):  # type: ignore[operator]
        ends = " (both excluded)" if open_ends else ""
        raise UserError(f"{key}={value} must be a number from {low} to {high}{ends}")


def _one_of(key: str, value: object, choices: Collection[object]) -> None:
    if value not in tuple(choices):
        names = [str(choice) for choice in choices]
        raise UserError(f"{key}={value} must be one of {', '.join(names)}{did_you_mean(str(value), names)}")


def effective_recipe(plain: Plain) -> dict[str, Any]:
    """The recipe as it is carried out: for random weights without what is of use for others alone."""
    return dict(plain["recipe"]) | ({} if plain["model"]["weights"] else WITHOUT_WEIGHTS)


def effective_lr(plain: Plain) -> float:
    """The rate of the backbone: `optim.lr` times `lr_scale`, scaled with the batch size as `lr_scaling` says."""
    factor = SCALINGS[plain["lr_scaling"]](plain["data"]["batch_size"] / REFERENCE_BATCH_SIZE)
    return float(plain["optim"]["lr"] * plain["lr_scale"] * factor)


def resolve_threads(plain: Plain) -> int:
    """Threads of torch on the CPU: `threads`, or one for each core that this process may use."""
    if plain["threads"] is not None:
        return int(plain["threads"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_precision(precision: object, accelerator: str) -> str:
    """Lightning's name of the precision; `auto` is bf16-mixed on a CUDA device that computes bfloat16, else 32-true.

    Raises:
        UserError: There is no such precision.
    """
    _one_of("precision", str(precision), ("auto", *PRECISIONS))
    if precision != "auto":
        return PRECISIONS[str(precision)]
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def num_devices(trainer: Plain) -> int:
    """On how many devices a Trainer of these arguments would run, with a process on each.

    A strategy whose devices are left open counts as two at least: it is made for several.
    """
    devices, asked = trainer["devices"], trainer.get("num_nodes")
    num_nodes = asked if isinstance(asked, int) else 1  # the Trainer tells of anything else
    if isinstance(devices, str) and "," in devices:  # as Lightning reads it: "0,1" are two, "2" are two as well
        devices = [text for text in devices.split(",") if text]
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices) * num_nodes
    if str(devices).isdigit():
        return int(devices) * num_nodes
    there = 1 if trainer["accelerator"] in ("cpu", "mps") else max(1, torch.cuda.device_count())
    return (max(2, there) if trainer.get("strategy") else there) * num_nodes


def num_batches(plain: Plain, there: int) -> int:
    """Batches of an epoch, after Lightning's limit.

    Raises:
        UserError: There would be none.
    """
    limit = plain["trainer"].get("limit_train_batches", 1.0)
    batches = min(there, limit) if isinstance(limit, int) else int(there * limit)
    if not batches:
        raise UserError(
            f"trainer.limit_train_batches={limit} of {there} batches is less than one: raise it, or give their number, "
            "such as 1"
        )
    return batches


def num_steps(plain: Plain, there: int) -> int:
    """Optimizer steps of the whole training, after Lightning's limits on batches and accumulation."""
    batches = num_batches(plain, there)
    return int(plain["epochs"] * -(-batches // plain["trainer"].get("accumulate_grad_batches", 1)))


def digests(plain: Plain, circumstances: Plain) -> dict[str, str]:
    """`config_digest`, and `configuration_digest` without the seed.

    Args:
        plain: The resolved configuration.
        circumstances: What the configuration names or leaves open, as it came out: digest of the weights, fingerprint
            of the data, precision, threads, how whole pictures are stored.
    """
    kept = {key: value for key, value in files.flatten(plain).items() if not record.is_neutral(key)}
    kept = {key: value for key, value in kept.items() if key not in OF_CIRCUMSTANCES}
    kept = {key: value for key, value in kept.items() if key not in ADDED_LATER or value != ADDED_LATER[key]}
    without_seed = {key: value for key, value in kept.items() if key != "seed"}
    return {
        "config_digest": files.digest([kept, circumstances]),
        "configuration_digest": files.digest([without_seed, circumstances]),
    }


def of_record(folder: Path) -> dict[str, Any]:
    """The configuration of the run in a folder, with the keys that came after it.

    Keys that nothing takes any more are named and ignored. What a record names as a target is not imported: it may be a
    stranger's.

    Raises:
        UserError: There is none that can be read.
    """
    path = folder / record.CONFIG
    try:
        plain: dict[str, Any] = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): move the folder away") from error
    for key, value in ADDED_LATER.items():
        section, _, name = key.partition(".")
        if not isinstance(plain, dict) or not isinstance(plain.get(section), dict):
            raise UserError(f"{path} is no configuration: move the folder away")
        plain[section].setdefault(name, value)
    for unknown in unknown_keys(plain, with_targets=False).values():
        log.warning("%s: %s; it is ignored", path, unknown)
    return plain
