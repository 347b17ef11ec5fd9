"""What a sweep would do, is about to do, and has done already."""

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from intel_scenes import files, known_keys, record
from intel_scenes.data.scenes import find_split, num_images
from intel_scenes.errors import UserError
from intel_scenes.studies.collect import Run, collect, planned, read_study, said
from intel_scenes.sweeps.names import as_typed, composition_digest, of_command, run_name, shared_and_swept, typed

INTEL_TEST_IMAGES = 3000  # that a download brings
DEVICE_KEYS = ("devices", "num_nodes", "strategy")  # of the Trainer

Overrides = Sequence[str]


def named_jobs(jobs: Sequence[Overrides], folder: Path) -> dict[str, Overrides]:
    """Each job by the name of its run in the folder of a study; of jobs that compose alike, one."""
    named: dict[str, Overrides] = {}
    for job in jobs:
        name = run_name(job, folder)
        if name in named and composition_digest(named[name]) != composition_digest(job):
            one, other = set(named[name]), set(job)
            raise UserError(
                f"{' '.join(sorted(one - other))} and {' '.join(sorted(other - one))} would share the folder {name}, "
                "because they do not change the result: start a sweep for each, with a sweep.name of its own"
            )
        named[name] = job
    return named


def finished_jobs(named: Mapping[str, Overrides], folder: Path, compose: Callable[[Overrides], DictConfig]) -> set[str]:
    """Names of the runs that are complete and would be composed as they were, on the same images."""
    complete: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name, job in named.items():
        summary = record.peek(folder / name)
        if summary and summary["status"] == "completed" and summary["composition_digest"] == composition_digest(job):
            of_data = tuple(sorted(text for text in job if text.lstrip("+").startswith("data")))
            complete.setdefault(of_data, []).append((name, summary["data_fingerprint"]))
    finished = set()
    for runs in complete.values():
        from intel_scenes.training import (
            run as experiment,  # imports torch, and only where there is something to compare
        )

        try:
            now = experiment.data_fingerprint(compose(named[runs[0][0]]))
        except (UserError, OSError):  # which their own jobs will tell
            continue
        finished |= {name for name, fingerprint in runs if fingerprint == now}
    return finished


def check(jobs: Iterable[Overrides], compose: Callable[[Overrides], DictConfig]) -> None:
    """Composes every job before the first runs, and then checks what came out."""
    progress = tqdm(list(jobs), desc="checking", unit="run", leave=False, disable=None, delay=2)
    configs = [(compose(job), job) for job in progress]
    for cfg, _ in configs:
        known_keys.check_keys(OmegaConf.to_container(cfg), with_targets=False)  # type: ignore[arg-type]
    if configs:
        # They import torch, for which a misspelt name need not wait.
        from intel_scenes.training import configuration
        from intel_scenes.training import run as experiment

        for cfg, job in configs:
            if configuration.num_devices(cfg.trainer) > 1:
                given = [f"trainer.{key}={cfg.trainer[key]}" for key in DEVICE_KEYS if cfg.trainer.get(key)]
                raise UserError(
                    f"{' with '.join(given)} starts processes of its own, which know no sweep: set trainer.devices=1, "
                    "and start a sweep for each GPU instead"
                )
            experiment.check(cfg, job)


def other_choices(
    named: Mapping[str, Overrides], folder: Path, config: DictConfig, compose: Callable[[Overrides], DictConfig]
) -> dict[str, tuple[str, str]]:
    """What a sweep fixes to another value than the runs of its folder have; as it was typed there and here, by key.

    What varies there or here, or is a factor of the study, is not fixed.
    """
    study = read_study(folder)
    known = _choices(study)
    if known is None:
        return {}
    here, swept = shared_and_swept(list(named.values()))
    there, varies = known
    factors = swept | varies | {*(config.study.compared or []), *(config.study.tuned or [])}
    factors |= set(OmegaConf.select(config, "hydra.sweeper.params") or {})
    unlike = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    job = next(iter(named.values()))
    return {
        key: (there.get(key, ""), here.get(key, ""))
        for key in unlike
        if key not in factors and not _has_no_effect(key, there.get(key), job, study.get("threads"), compose)
    }


def _choices(study: Mapping[str, Any]) -> tuple[dict[str, str], set[str]] | None:
    """What all runs of a study share, as overrides by key, and the keys that vary; None where nothing says so.

    Plans of earlier versions say it by their commands.
    """
    if study.get("fixed") is not None:
        return shared_and_swept([study["fixed"]])[0], set(study.get("swept") or [])
    commands = [of_command(one.get("command")) for one in (study, *(study.get("added") or []))]
    readable = [command for command in commands if command is not None]
    return shared_and_swept(readable) if readable else None


def _has_no_effect(
    key: str, before: str | None, job: Overrides, threads: int | None, compose: Callable[[Overrides], DictConfig]
) -> bool:
    """Whether a job would come to the same with a key as it was before, because one of the two is the default."""
    others = [text for text in job if key not in shared_and_swept([[text]])[0]]
    try:
        old, new = compose([*others, *([before] if before else [])]), compose(job)
    except (HydraException, OmegaConfBaseException):  # no such key in the files that are chosen now
        return False
    for cfg in (old, new):
        cfg.threads = threads if cfg.threads is None else cfg.threads  # as each run of the folder takes it
    plain: list[dict[str, Any]] = [OmegaConf.to_container(cfg) for cfg in (old, new)]  # type: ignore[misc]
    return all(record.is_neutral(text.split(" ")[0]) for text in files.differences(*plain))


def ask_for_name(others: Mapping[str, tuple[str, str]], folder: Path, name: str) -> str:
    """The sentence that asks for a name, because a sweep differs from the runs of its folder in what it fixes."""
    there, here = (", ".join(texts[place] or f"the default {key}" for key, texts in others.items()) for place in (0, 1))
    return (
        f"{folder} holds runs with {there}, and this sweep has {here}: add sweep.name=NAME for a study of its own, or "
        f"sweep.name={name} to compare them"
    )


def show(
    named: Mapping[str, Overrides],
    finished: set[str],
    folder: Path,
    config: DictConfig,
    searched: Iterable[str],
    compose: Callable[[Overrides], DictConfig],
) -> None:
    """Prints what each run would do and may cost, by the runs there that are alike, and what the study would show."""
    earlier = [run for run in collect(folder)[0] if run.is_completed]
    minutes, megabytes, unknown, counts = 0.0, 0.0, 0, Counter[str]()
    for name, job in named.items():
        action = "skip" if name in finished else _action(folder / name)
        counts[action] += 1
        cost = ""
        if action != "skip":
            cfg = compose(job)
            alike = [run for run in earlier if _is_alike(run, cfg)]
            if alike:
                by_epoch = [run.summary["fit_seconds"] / run.summary["epochs"] for run in alike]
                estimate = cfg.budget_minutes or sum(by_epoch) / len(by_epoch) * cfg.epochs / 60
                cost = f"about {estimate:.1f} minutes"
                minutes += estimate
                megabytes += sum(map(_megabytes, alike)) / len(alike)
            else:
                cost, unknown = "no run alike yet", unknown + 1
        print(f"  {action:<9}{name}  {cost}".rstrip())
    print(", ".join(f"{count} to {action}" for action, count in counts.items()))
    if counts["check"]:
        print("check: there is a record of other files or settings, which may be refused")
    known = len(named) - counts["skip"] - unknown
    if known:
        print(f"about {minutes:.0f} minutes and {megabytes:.0f} MB for {known} runs")
    if unknown:
        print(f"minutes and disk unknown for {unknown} runs: no earlier run there has their network and image size")
    num_test = _num_test(earlier, compose(next(iter(named.values()))))
    for line in _promise(named, folder, config, searched, num_test):
        print(line)


def _promise(
    named: Mapping[str, Overrides],
    folder: Path,
    config: DictConfig,
    searched: Iterable[str],
    num_test: int | None,
) -> list[str]:
    """What the seeds of a sweep would show, on so many test images where no earlier runs tell."""
    from intel_scenes.studies.comparison import compare  # imports scipy
    from intel_scenes.studies.pairs import would_show

    study = config.study
    aside = {"seed", *(study.get("tuned") or []), *searched}
    arms: dict[tuple[str, ...], set[str]] = {}
    for job in named.values():
        values = typed(job)
        arm = tuple(f"{key}={value}" for key, value in sorted(values.items()) if key not in aside)
        arms.setdefault(arm, set()).add(values.get("seed", ""))
    if len(arms) < 2:
        return []
    try:
        pairs = compare(folder).pairs
    except UserError:  # there is nothing yet
        pairs = []
    if num_test is None:
        return ["the smallest detectable difference is unknown: data.root has no test images to count"]
    num_seeds, has_baseline = min(map(len, arms.values())), config.compare.baseline is not None
    return would_show(pairs, len(arms), num_seeds, num_images=num_test, has_baseline=has_baseline)


def _num_test(earlier: Sequence[Run], cfg: DictConfig) -> int | None:
    """The number of test images by earlier runs, else by the names of files; None where nothing tells."""
    if known := [run.summary["num_test"] for run in earlier if run.summary["num_test"]]:
        return int(known[-1])
    if cfg.data.source == "synthetic":
        return int(cfg.data.num_test)
    try:
        if cfg.data.root is not None:
            return num_images(find_split(Path(cfg.data.root).expanduser(), "seg_test"))
    except UserError:
        pass  # there are none
    return INTEL_TEST_IMAGES if cfg.data.source == "intel" else None


def _is_alike(run: Run, cfg: DictConfig) -> bool:
    is_timed = run.summary["fit_seconds"] is not None and bool(run.summary["epochs"])
    same_size = cfg.data.image_size in (None, run.summary["image_size"])
    return bool(is_timed and run.summary["model_name"] == cfg.model.name and same_size)


def _megabytes(run: Run) -> float:
    return sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 1e6


def write_study(
    folder: Path,
    named: Mapping[str, Overrides],
    config: DictConfig,
    searched: Mapping[str, Sequence[float]],
    *,
    joined: Iterable[str] = (),
) -> None:
    """Writes the plan before the first run; what later invocations add or change is appended with its date.

    Args:
        folder: Of the study.
        named: The overrides of each run, by its name.
        config: Of the sweep.
        searched: Keys whose values were sampled, with low, high and 1 for a logarithmic scale: they are tuned, beside
            those that the study names.
        joined: Keys that the runs there have fixed to another value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry = {
        "date": files.now(),
        "command": shlex.join(["python", "-m", "intel_scenes.train", *as_typed(sys.argv[1:])]),
    }
    asked: dict[str, Any] = OmegaConf.to_container(config.study, resolve=True)  # type: ignore[assignment]
    with FileLock(folder / record.STUDY_LOCK):
        before = read_study(folder)
        if before:
            plan, new, changed = _amended(before, named, asked, searched, entry, joined)
            _tell(folder, before, new, changed)
        else:
            plan = _first(named, asked, searched, entry, threads=_threads_of(config))
        if plan != before:
            record.write_study(folder, plan)


def _first(
    named: Mapping[str, Overrides],
    asked: Mapping[str, Any],
    searched: Mapping[str, Sequence[float]],
    entry: Mapping[str, str],
    *,
    threads: int,
) -> dict[str, Any]:
    """What is planned where nothing was before."""
    from intel_scenes.training import identity

    fixed, swept = shared_and_swept(list(named.values()))
    return {
        "question": asked.get("question"),
        "compared": asked.get("compared"),
        "tuned": list(dict.fromkeys([*(asked.get("tuned") or []), *searched])),
        "searched": {key: list(bounds) for key, bounds in searched.items()},
        "seeds": sorted({text[5:] for job in named.values() for text in job if text.startswith("seed=")}),
        "primary_metric": "val_accuracy_tta chooses, test_accuracy of what was chosen is compared",
        "threads": threads,
        "fixed": sorted(fixed.values()),
        "swept": sorted(swept),
        **entry,
        "commit": identity.git_state()["git_commit"],
        "planned": list(named),
        "added": [],
    }


def _amended(
    before: Mapping[str, Any],
    named: Mapping[str, Overrides],
    asked: Mapping[str, Any],
    searched: Mapping[str, Sequence[float]],
    entry: Mapping[str, str],
    joined: Iterable[str],
) -> tuple[dict[str, Any], list[str], dict[str, list[Any]]]:
    """An earlier plan with what is added now; the runs that are new, and what it asks that it did not."""
    plan, added = dict(before), before.get("added") or []
    plan["searched"] = {**(before.get("searched") or {}), **{key: list(value) for key, value in searched.items()}}
    plan["question"] = asked.get("question") or before.get("question")
    plan["compared"] = asked.get("compared") or before.get("compared") or []
    tuned = asked.get("tuned") or before.get("tuned") or []
    plan["tuned"] = list(dict.fromkeys([*tuned, *plan["searched"]]))
    if known := _choices(before):
        swept = known[1] | shared_and_swept(list(named.values()))[1] | set(joined)
        plan["fixed"] = sorted(text for key, text in known[0].items() if key not in swept)
        plan["swept"] = sorted(swept)
    changed = {
        key: [before.get(key), plan[key]]
        for key in ("question", "compared", "tuned")
        if (before.get(key) or None) != (plan[key] or None)
    }
    there = set(planned(before))
    new = [name for name in named if name not in there]
    if new or changed:
        plan["added"] = [*added, {**entry, "runs": new} | ({"changed": changed} if changed else {})]
    return plan, new, changed


def _tell(folder: Path, before: Mapping[str, Any], new: Sequence[str], changed: Mapping[str, Sequence[Any]]) -> None:
    """Says what an invocation adds to a plan."""
    if new:
        print(
            f"{len(new)} runs are added to the {len(planned(before))} of {folder}, and compared with them: "
            "sweep.name=NAME starts another study",
            file=sys.stderr,
        )
    if changed:
        was = ", ".join(f"{key} was {said(old)} and is {said(now)}" for key, (old, now) in changed.items())
        print(f"what {folder} asks has changed, and its report says so: {was}", file=sys.stderr)


def note_twin(folder: Path, name: str, twin: str) -> None:
    """Writes into `study.yaml` that a planned run is the same as another, of which it leaves no record of its own."""
    with FileLock(folder / record.STUDY_LOCK):
        plan = read_study(folder)
        twins = plan.get("twins") or {}
        if plan and twins.get(name) != twin:
            record.write_study(folder, {**plan, "twins": {**twins, name: twin}})


def _action(folder: Path) -> str:
    summary = record.peek(folder)
    if summary is None:
        return "check" if (folder / record.SUMMARY).exists() else "run"
    return {"interrupted": "continue", "failed": "retry"}.get(summary["status"], "check")


def _threads_of(config: DictConfig) -> int:
    """What each run of a sweep may use: `threads`, or its share of the cores under the launcher that is chosen."""
    from intel_scenes.training import configuration

    cores, launcher = configuration.resolve_threads({"threads": None}), config.hydra.launcher
    if config.threads is not None:
        return int(config.threads)
    if launcher.get("n_jobs"):
        return max(1, cores // launcher.n_jobs) if launcher.n_jobs > 0 else 1
    if launcher.get("cpus_per_task"):
        return int(launcher.cpus_per_task)
    if launcher.get("ray"):
        return max(1, int(OmegaConf.select(launcher, "ray.remote.num_cpus") or 1))
    return cores
