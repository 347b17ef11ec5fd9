"""Processes of one run on several devices: who starts them, and what the first one tells the others."""

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple, NoReturn

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import DistError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # not in __all__
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from intel_scenes.config import TrainerConfig
from intel_scenes.errors import Lost, UserError, counted, first_line
from intel_scenes.files import shown
from intel_scenes.runtime import cluster_environment, num_devices, resolve_threads

JOIN_SECONDS = 600.0  # for the launcher to start all processes, and for each to import torch
DECISION_SECONDS = 86_400.0  # the first process may have images to decode
WORD_SECONDS = 2.0  # for the processes to tell each other why they end
ENDED = b"ended"
INTERRUPTED = 130


class Failure(NamedTuple):
    """Why a process failed, in one sentence, and its traceback."""

    error: str
    traceback: str


class Started(NamedTuple):
    """Processes that a launcher started for one run.

    Attributes:
        by: Name of the launcher.
        num_local: Processes on each machine.
        num_nodes: Machines.
    """

    by: str
    num_local: int
    num_nodes: int


def started(trainer: TrainerConfig) -> Started | None:
    """Return the processes that torchrun or srun started, read from the environment variables; None without them.

    torchrun always starts one run. Under srun, each task trains a run of its own if the run is on one device.

    Raises:
        UserError: srun was not told how many processes each machine has, which Lightning needs.
    """
    if TorchElasticEnvironment.detect():
        return Started("torchrun", int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"]))
    if num_devices(trainer) == 1:
        return None
    try:
        environment = cluster_environment()
    except RuntimeError as error:
        raise UserError("srun needs --ntasks-per-node for a run on several devices: add it") from error
    if isinstance(environment, SLURMEnvironment):
        num_nodes = int(os.environ.get("SLURM_NNODES") or os.environ.get("SLURM_JOB_NUM_NODES") or 1)
        return Started("srun", environment.world_size() // num_nodes, num_nodes)
    return None


def as_started(trainer: TrainerConfig, typed: Collection[str]) -> TrainerConfig:
    """Return the devices of a run as numbers: those that a launcher started, else those of the machine.

    Args:
        trainer: Devices as configured.
        typed: Keys that were typed.

    Raises:
        UserError: A number that was typed is not that of the launcher, or there is no such device.
    """
    launched = started(trainer)
    is_open = str(trainer.devices) in ("-1", "auto")
    if launched is None:
        if not (is_open and trainer.strategy):
            return trainer
        if trainer.accelerator == "cpu" or not torch.cuda.is_available():
            raise UserError(
                f"trainer.devices={trainer.devices} means all GPUs, but there is none: set trainer.devices=2 for two "
                "processes on the CPU"
            )
        return replace(trainer, devices=torch.cuda.device_count())
    num_local = None if is_open else num_devices(trainer) // trainer.num_nodes
    for key, own, theirs, noun in (
        ("trainer.devices", num_local, launched.num_local, "process"),
        ("trainer.num_nodes", trainer.num_nodes, launched.num_nodes, "machine"),
    ):
        if key in typed and own not in (None, theirs):
            where = counted(theirs, noun, "processes on each machine" if noun == "process" else None)
            raise UserError(f"{key}={shown(own)}, but {launched.by} started {where}: leave {key} out, or start as many")
    if launched.num_local * launched.num_nodes == 1:
        return replace(trainer, devices=1)
    nodes = {"num_nodes": launched.num_nodes} if launched.num_nodes != trainer.num_nodes else {}
    return replace(trainer, devices=launched.num_local, others={"strategy": "ddp", **trainer.others, **nodes})


def needs_processes(trainer: TrainerConfig) -> bool:
    """Return whether a run on several devices was started as a single process."""
    return num_devices(trainer) > 1 and started(trainer) is None


def start_processes(trainer: TrainerConfig) -> NoReturn:
    """Start this command once for each device, as torchrun does, and end with the exit status of the run.

    Raises:
        UserError: The run is on several machines, or its first process was killed.
        KeyboardInterrupt: The run was interrupted.
    """
    if trainer.num_nodes != 1:
        raise UserError("a run on several machines must be started by torchrun or srun: see docs/several-devices.md")
    for name in ("agent.server.api", "multiprocessing.api"):  # the processes say why they end
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # inherited; the processes report a lost connection
    agent = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_devices(trainer),
        run_id="intel_scenes",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        signals_to_handle="SIGINT,SIGHUP,SIGQUIT",  # without SIGTERM, whose handler is that of every command
    )
    try:
        elastic_launch(agent, sys.executable)("-m", "intel_scenes.train", *sys.argv[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0 and rank == 0:
            raise Lost from error
        sys.exit(INTERRUPTED if failure.exitcode == INTERRUPTED else 1)
    except SignalException as stop:
        raise KeyboardInterrupt from stop
    sys.exit(0)


@dataclass
class Ranks:
    """The processes of a run, as one of them sees them.

    Processes that torchrun or srun started all exist before the run has looked at its folder, and they form a group
    only when the training begins. Until then the first process tells the others what it decided through a
    `torch.distributed.TCPStore` at MASTER_ADDR and MASTER_PORT: the one of torchrun's agent, else one that the first
    process serves. The others read no file of the run.

    Attributes:
        rank: Number of this process, from 0.
        num_ranks: Number of processes.
        store: Store that all processes share; None for the only process of a run.
    """

    rank: int = 0
    num_ranks: int = 1
    store: Store | None = None
    _num_decisions: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the only process of the run, or the first of several."""
        return self.rank == 0

    def decided(self, decide: Callable[[], bool]) -> bool:
        """Return on all processes what the first one decides; if it fails instead, the others end with status 1.

        The first process waits until the others know, because it may serve the store and be about to end.

        Raises:
            Lost: Another process has not asked for the decision.
        """
        store = self.store
        if store is None:
            return decide()
        self._num_decisions += 1
        key = f"decision {self._num_decisions}"
        if not self.is_first:
            told = store.get(key)
            store.add(f"heard {key}", 1)
            if told == ENDED:
                sys.exit(1)
            return bool(json.loads(told))
        decision = decide()
        store.set(key, json.dumps(decision))
        if not _within(DECISION_SECONDS, lambda: self._have_heard(key) or store.check(["failure"])):
            raise Lost
        if not self._have_heard(key):
            sys.exit(1)  # the process that failed reports it
        return decision

    def _have_heard(self, key: str) -> bool:
        """Return whether all other processes know the value of a key."""
        assert self.store is not None
        return self.store.add(f"heard {key}", 0) >= self.num_ranks - 1

    def failure(self) -> Failure | None:
        """Return why another process of the run failed, if one did."""
        if self.store is None or not self.store.check(["failure"]):
            return None
        return Failure(*json.loads(self.store.get("failure")))

    def end(self, error: BaseException) -> None:
        """Tell the other processes why this one ends; end here if another one reports that to the user.

        Args:
            error: What ends this process.
        """
        store = self.store
        if store is None:
            return
        sentence = first_line(error)
        if self.is_first:
            outlast_launcher()
            next_decision = f"decision {self._num_decisions + 1}"
            store.set("ended", sentence)
            store.set(next_decision, ENDED.decode())
            _within(WORD_SECONDS, lambda: self._have_heard("ended") or self._have_heard(next_decision))
            return
        if isinstance(error, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        with suppress(RuntimeError):  # without a store, because the first process has gone
            failure = Failure(sentence, "".join(traceback.format_exception(error)))
            first_failure, _ = json.loads(store.compare_set("failure", "", json.dumps(failure)))
            if isinstance(error, Lost) and first_failure != sentence:
                sys.exit(1)
            is_told = _within(WORD_SECONDS, lambda: store.check(["ended"])) and store.get("ended").decode() == sentence
            store.add("heard ended", 1)
            if is_told:
                sys.exit(1)


def outlast_launcher() -> None:
    """Ignore SIGTERM: a launcher sends it when another process has ended, and the first one has a record to close."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _within(seconds: float, happens: Callable[[], bool]) -> bool:
    """Return whether something happens within a time."""
    end = time.monotonic() + seconds
    while not (is_there := happens()) and time.monotonic() < end:
        time.sleep(0.05)
    return is_there


@contextmanager
def joined(trainer: TrainerConfig, threads: int | None) -> Iterator[Ranks]:
    """Join the other processes of a run on several devices; nothing is done for a single process.

    Args:
        trainer: Devices of the run, from `as_started`.
        threads: Torch's threads on the CPU.

    Raises:
        UserError: The run failed, and no other process reports it.
    """
    if num_devices(trainer) == 1 or started(trainer) is None:
        yield Ranks()
        return
    environment = cluster_environment()
    os.environ.setdefault("OMP_NUM_THREADS", str(resolve_threads(threads)))  # or Lightning sets another number
    ranks = Ranks(environment.global_rank(), environment.world_size())
    if not ranks.is_first:
        logging.getLogger("intel_scenes").setLevel(logging.ERROR)  # the first process says everything
    try:
        with lost_as_user_error():
            ranks.store = _store(environment)
            yield ranks
    except (Exception, KeyboardInterrupt) as error:
        ranks.end(error)
        raise


@contextmanager
def lost_as_user_error() -> Iterator[None]:
    """Turn the loss of the connection to another process into a UserError.

    Raises:
        Lost: Another process of the run has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, DistError) or "gloo" in str(error):  # Gloo's own errors have no class
            raise Lost from error
        raise


def _store(environment: ClusterEnvironment) -> Store:
    has_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(
        environment.main_address,
        environment.main_port,
        is_master=environment.global_rank() == 0 and not has_agent,
        timeout=timedelta(seconds=JOIN_SECONDS),
        wait_for_workers=False,
        multi_tenant=True,  # the group will use the same port
    )
    store.set_timeout(timedelta(seconds=DECISION_SECONDS))
    return PrefixStore(f"intel_scenes of attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
