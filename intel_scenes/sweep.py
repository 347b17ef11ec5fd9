"""A sweep: what is there, what is left to do, the runs one by one, and the table at the end."""

import logging
import shlex
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from intel_scenes import record
from intel_scenes.errors import Busy, Refused, Twin, UserError
from intel_scenes.overrides import composition_digest, conf_folder, run_name
from intel_scenes.studies.collect import Run, collect
from intel_scenes.studies.report import RESULTS, choices, table, write_results

log = logging.getLogger(__name__)

STUDY = "study.yaml"
STOPPED = ".stopped"  # left by a run that failed, where `sweep.fail_fast` holds
FAILED, OPEN, INTERRUPTED = 1, 3, 130

Overrides = Sequence[str]


@dataclass(frozen=True)
class Job:
    """What Hydra knows of one job: its folder, the file chosen in each group, what was typed, and a digest of that.

    `composition_digest` covers the whole tree of `conf/` and the overrides: jobs that share it compose alike.
    """

    folder: Path
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    composition_digest: str


@dataclass
class Progress:
    """How far the sweep of this process is.

    Attributes:
        total: Number of runs.
        skipped: Those that were finished before.
        started: When the sweep began, ISO 8601.
        failed: Those that failed.
        number: Of the current run, from 1, after the skipped ones.
        seconds: Of each run so far.
    """

    total: int
    skipped: int
    started: str
    failed: int = 0
    number: int = 0
    seconds: list[float] = field(default_factory=list)

    def line(self) -> str:
        """One line such as `run 7 of 36, 2 skipped, 1 failed, about 12 minutes left`."""
        text = f"run {self.number} of {self.total}, {self.skipped} skipped, {self.failed} failed"
        if not self.seconds:
            return text
        left = sum(self.seconds) / len(self.seconds) * (self.total - self.number + 1) / 60
        return f"{text}, about {left:.0f} minutes left" if left >= 1.5 else f"{text}, about a minute left"


_progress: Progress | None = None  # of the process that started the sweep; a launcher's workers have none


def run(
    jobs: Sequence[Overrides],
    folder: Path,
    config: DictConfig,
    *,
    compose: Callable[[Overrides], DictConfig],
    launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]],
) -> int:
    """Runs every job that is not finished, and shows what is there at the end.

    Args:
        jobs: The overrides of each.
        folder: Of the study.
        config: Of the sweep, with `sweep` and `study`, and Hydra's own part.
        compose: Overrides to the configuration of a job.
        launch: Runs jobs; each returns how it ended.

    Returns:
        The exit status: 0 all complete, 1 some failed or refused, 3 some open.

    Raises:
        UserError: Something is misspelt or does not go together: nothing has run.
        KeyboardInterrupt: Ctrl-C; what is there has been shown.
    """
    global _progress
    named = _named(jobs)
    sources = [source for source in config.hydra.runtime.config_sources if source.schema == "file"]
    finished = _finished(named, folder, compose) if len(sources) == 1 else set()  # no digest covers other folders
    left = {name: job for name, job in named.items() if name not in finished}
    if config.sweep.plan:
        _show_plan(named, finished, folder, compose)
        return 0
    if config.trainer.get("strategy") and config.trainer.devices != 1:
        raise UserError(
            "trainer=ddp starts processes of its own, which know no sweep: start a sweep for each GPU instead"
        )
    _check(left.values(), compose)
    if left:
        _write_study(folder, named, config)
    if config.sweep.fail_fast:
        (folder / STOPPED).unlink(missing_ok=True)
    _progress = Progress(len(named), len(finished), _now(), number=len(finished))
    outcomes = dict.fromkeys(left, "unknown")
    try:
        outcomes |= _launched(left, launch)
        if busy := {name: left[name] for name, outcome in outcomes.items() if outcome == "busy"}:
            _progress.number = len(named) - len(busy)
            outcomes |= _launched(busy, launch)
    finally:
        status = _conclude(folder, named, outcomes, anything_ran=bool(left))
        _progress = None
    return status


def run_one(train: Callable[[], None], cfg: DictConfig, job: Job) -> str:
    """Runs one job of a sweep; no exception but Ctrl-C leaves it.

    Returns:
        "completed", "twin", "busy", "stopped", or "failed" or "refused" with the reason.
    """
    study = job.folder.parent
    if _progress:
        _progress.number += 1
    if cfg.sweep.fail_fast and (study / STOPPED).exists():
        _remove_empty(job.folder)
        return "stopped"
    if _progress and _failed_since(job.folder, _progress.started):
        return "failed: in another invocation of this sweep"
    print(f"\n{_progress.line() if _progress else 'run'}: {job.folder.name}", file=sys.stderr)
    begun = time.monotonic()
    if cfg.threads is None and (study / STUDY).exists():
        cfg.threads = yaml.safe_load((study / STUDY).read_text())["threads"]
    outcome = _outcome(train, cfg, job)
    if outcome.startswith("failed") and cfg.sweep.fail_fast:
        (study / STOPPED).touch()
    if _progress:
        _progress.failed += outcome.startswith(("failed", "refused"))
        if outcome not in ("busy", "twin"):
            _progress.seconds.append(time.monotonic() - begun)
    return outcome


def _outcome(train: Callable[[], None], cfg: DictConfig, job: Job) -> str:
    try:
        train()
    except (Busy, Twin) as error:
        print(error, file=sys.stderr)
        _remove_empty(job.folder)
        return "busy" if isinstance(error, Busy) else "twin"
    except Refused as error:
        print(f"{job.folder.name} is refused: {error}", file=sys.stderr)
        return f"refused: {error}"
    except (Exception, SystemExit) as error:
        reason = _reason(error)
        print(f"{job.folder.name} failed: {reason}\n  {' '.join(job.overrides)}", file=sys.stderr)
        _record_failure(job, cfg, reason)
        return f"failed: {reason}"
    return "completed"


def _named(jobs: Sequence[Overrides]) -> dict[str, Overrides]:
    """Each job by the name of its run; of jobs that compose alike, one."""
    named: dict[str, Overrides] = {}
    for job in jobs:
        name = run_name(job)
        if name in named and composition_digest(named[name]) != composition_digest(job):
            one, other = set(named[name]), set(job)
            raise UserError(
                f"{' '.join(sorted(one - other))} and {' '.join(sorted(other - one))} would share the folder {name}, "
                "because they do not change the result: start a sweep for each, with a sweep.name of its own"
            )
        named[name] = job
    return named


def _finished(named: Mapping[str, Overrides], folder: Path, compose: Callable[[Overrides], DictConfig]) -> set[str]:
    """Names of the runs that are complete and would be composed as they were, on the same images."""
    complete: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name, job in named.items():
        summary = record.peek(folder / name) if not any(map(_names_a_file, job)) else None
        if summary and summary["status"] == "completed" and summary["composition_digest"] == composition_digest(job):
            of_data = tuple(sorted(text for text in job if text.lstrip("+").startswith("data")))
            complete.setdefault(of_data, []).append((name, summary["data_fingerprint"]))
    finished = set()
    for runs in complete.values():
        from intel_scenes.runs import experiment  # imports torch, and only where there is something to compare

        try:
            now = experiment.data_fingerprint(compose(named[runs[0][0]]))
        except (UserError, OSError):  # which their own jobs will tell
            continue
        finished |= {name for name, fingerprint in runs if fingerprint == now}
    return finished


def _names_a_file(override: str) -> bool:
    """Whether a value is a file, whose content no digest of a composition covers."""
    value = override.partition("=")[2].strip("'\"")
    return ("/" in value or "." in value) and Path(value).expanduser().is_file()


def _check(jobs: Iterable[Overrides], compose: Callable[[Overrides], DictConfig]) -> None:
    """Composes every job before the first runs, and then checks what came out."""
    progress = tqdm(list(jobs), desc="checking", unit="run", leave=False, disable=None, delay=2)
    configs = [compose(job) for job in progress]
    if configs:
        from intel_scenes.runs import experiment  # imports torch, for which a misspelt name need not wait

        for cfg in configs:
            experiment.check(cfg)


def _launched(
    jobs: Mapping[str, Overrides], launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]]
) -> dict[str, str]:
    """How each run ended; "unknown" where its process did not come back."""
    outcomes = dict.fromkeys(jobs, "unknown")
    if not jobs:
        return outcomes
    try:
        returned = launch(list(jobs.values()))
    except Exception as error:  # a worker's end, in the words of the launcher
        print(f"the launcher broke off: {_reason(error)}", file=sys.stderr)
        return outcomes
    for name, result in zip(jobs, returned, strict=True):
        try:
            outcomes[name] = result.return_value
        except Exception as error:
            outcomes[name] = f"failed: {_reason(error)}"
    return outcomes


def _conclude(folder: Path, named: Mapping[str, Overrides], outcomes: Mapping[str, str], *, anything_ran: bool) -> int:
    """Writes and shows what is there; returns the exit status."""
    runs = collect(folder)
    by_name = {run.name: run for run in runs}
    if runs and (anything_ran or not (folder / RESULTS).exists()):
        write_results(folder, runs)
        print(f"\n{table(runs)}\n")
        plan = yaml.safe_load((folder / STUDY).read_text()) if (folder / STUDY).exists() else {}
        if plan.get("tuned"):
            print("\n".join(["chosen on validation:", *choices(runs, plan["tuned"])]), end="\n\n")
    failed, left = {}, []
    for name in named:
        outcome, run = outcomes.get(name, "finished"), by_name.get(name)
        if outcome.startswith(("failed", "refused")):
            failed[name] = outcome
        elif outcome in ("twin", "finished", "completed") or (run and run.is_completed):
            continue
        elif run and run.summary["status"] == "failed" and outcome == "unknown":
            failed[name] = f"failed: {run.summary['error']}"
        else:
            left.append(name)
    if several := _several_versions(runs):
        print(f"the runs are of several versions: {several}")
    complete = len(named) - len(failed) - len(left)
    print(f"{complete} of {len(named)} runs complete, {len(failed)} failed or refused, {len(left)} open: {folder}")
    for name, why in failed.items():
        print(f"  {name} {why}")
    for name in left:
        print(f"  {name} open: the same command goes on with it")
    return FAILED if failed else OPEN if left else 0


def _several_versions(runs: Sequence[Run]) -> str:
    """What the completed runs were made with, where that differs: it may explain a difference between them."""
    made_with = [
        {"commit": run.summary["git_commit"], **(run.summary["versions"] or {})} for run in runs if run.is_completed
    ]
    found = {
        key: sorted({str(one.get(key)) for one in made_with}) for key in dict.fromkeys(k for o in made_with for k in o)
    }
    return "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if len(values) > 1)


def _show_plan(
    named: Mapping[str, Overrides], finished: set[str], folder: Path, compose: Callable[[Overrides], DictConfig]
) -> None:
    """Prints what each run would do and may cost, by the runs there that have its network and image size."""
    earlier = [run for run in collect(folder) if run.is_completed]
    sizes = [sum(path.stat().st_size for path in (folder / run.name).rglob("*") if path.is_file()) for run in earlier]
    minutes, unknown, counts = 0.0, 0, Counter[str]()
    for name, job in named.items():
        action = "skip" if name in finished else _action(folder / name)
        counts[action] += 1
        cost = ""
        if action != "skip":
            cfg = compose(job)
            alike = [
                run.summary["fit_seconds"] / run.summary["epochs"]
                for run in earlier
                if run.summary["model_name"] == cfg.model.name
                and cfg.data.image_size in (None, run.summary["image_size"])
            ]
            estimate = sum(alike) / len(alike) * cfg.epochs / 60 if alike else None
            minutes, unknown = minutes + (estimate or 0), unknown + (estimate is None)
            cost = "no run alike yet" if estimate is None else f"about {estimate:.1f} minutes"
        print(f"  {action:<9}{name}  {cost}".rstrip())
    print(", ".join(f"{count} to {action}" for action, count in counts.items()))
    to_do = len(named) - counts["skip"]
    disk = f"about {sum(sizes) / len(sizes) * to_do / 1e6:.0f} MB" if sizes else "unknown"
    print(f"about {minutes:.0f} minutes for {to_do - unknown} of the {to_do} left, {unknown} unknown; disk {disk}")


def _action(folder: Path) -> str:
    summary = record.peek(folder)
    if summary is None:
        return "check" if (folder / record.SUMMARY).exists() else "run"
    return {"interrupted": "continue", "failed": "retry"}.get(summary["status"], "check")


def _write_study(folder: Path, named: Mapping[str, Overrides], config: DictConfig) -> None:
    """Writes the plan before the first run; what later invocations add is appended with its date."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STUDY
    entry = {"date": _now(), "command": shlex.join(["python", "-m", "intel_scenes.train", *sys.argv[1:]])}
    with FileLock(folder / ".study.lock"):
        if not path.exists():
            study: dict[str, Any] = OmegaConf.to_container(config.study, resolve=True) if config.study else {}  # type: ignore[assignment]
            plan = {
                "question": study.get("question"),
                "compared": study.get("compared"),
                "tuned": study.get("tuned") or [],
                "seeds": sorted({text[5:] for job in named.values() for text in job if text.startswith("seed=")}),
                "primary_metric": "val_accuracy chooses, test_accuracy of what was chosen is compared",
                "threads": _threads_of(config),
                **entry,
                "commit": _commit(),
                "planned": list(named),
                "added": [],
            }
        else:
            plan = yaml.safe_load(path.read_text())
            known = {*plan["planned"], *(name for one in plan["added"] for name in one["runs"])}
            if not (new := [name for name in named if name not in known]):
                return
            plan["added"].append({**entry, "runs": new})
        record.write_whole(path, yaml.safe_dump(plan, sort_keys=False, allow_unicode=True).encode())


def _remove_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a job, where nothing came of it."""
    with suppress(OSError):
        folder.rmdir()


def _threads_of(config: DictConfig) -> int:
    """What each run of a sweep may use: `threads`, or its share of the cores under the launcher that is chosen."""
    from intel_scenes.runs import configuration

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


def _record_failure(job: Job, cfg: DictConfig, reason: str) -> None:
    """Leaves a record of a run that failed, whose earlier one is kept in it where there is one."""
    summary = record.peek(job.folder) or {}
    if summary.get("status") == "completed" or (job.folder / ".lock").exists():  # not ours to write
        return
    if not summary:
        job.folder.mkdir(parents=True, exist_ok=True)
        record.write_whole(job.folder / record.CONFIG, OmegaConf.to_yaml(cfg).encode())
        record.write_whole(job.folder / record.OVERRIDES, yaml.safe_dump(list(job.overrides)).encode())
    groups = {group: job.choices.get(group) for group in ("study", "model", "optim", "scheduler", "recipe")}
    known = {key: value for key, value in summary.items() if value is not None and key in record.SUMMARY_KEYS}
    failure = {"status": "failed", "error": reason, "traceback": traceback.format_exc(), "ended": _now()}
    record.write_summary(job.folder, {**groups, "seed": cfg.seed, **known, **failure})


def _failed_since(folder: Path, moment: str) -> bool:
    summary = record.peek(folder)
    return bool(summary and summary["status"] == "failed" and summary["ended"] >= moment)


def _reason(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _commit() -> str | None:
    root = conf_folder().parent
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
