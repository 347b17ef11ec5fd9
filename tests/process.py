"""Commands as a user starts them: a Python process of its own.

Most of the time of a short command is that of importing torch, so `forked` and a `program` begin where that is done:
the process comes from one that has imported everything and done nothing else. `python` starts from nothing.
"""

import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

# Nothing answers there: what wants to download fails at once.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "intel_scenes.cli",
        "intel_scenes.training.run",
        "intel_scenes.studies.publish",
        "intel_scenes.inference.ensembles",
    ]
)


def python(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300, **options
) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` to its end, whatever its exit status."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


def forked(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
    meanwhile: Callable[[int], None] = lambda pid: None,
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m MODULE ARGUMENTS` to its end, the imports already done; `meanwhile` gets its number.

    What Python and torch read from the environment as they begin is that of the tests.
    """
    with TemporaryDirectory() as place:
        outputs = Path(place, "stdout"), Path(place, "stderr")
        settings = dict(env or os.environ)
        process = CONTEXT.Process(target=_become_written, args=(module, arguments, cwd, settings, outputs))
        process.start()
        meanwhile(process.pid)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([module, *arguments], timeout)
        stdout, stderr = (path.read_text() for path in outputs)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, stdout, stderr)


def wait_until(reached: Callable[[], object], seconds: float) -> None:
    """Returns once `reached()` is true; fails after that many seconds."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not reached within {seconds} s"
        time.sleep(0.01)


def ranks(
    module: str,
    *arguments: str,
    cwds: Sequence[Path],
    env: Mapping[str, str],
    by: str = "torchrun",
    timeout: float = 300,
) -> list[subprocess.CompletedProcess[str]]:
    """Runs `python -m MODULE ARGUMENTS` as the processes of one run, one in each folder, with what `by` tells them."""
    number = len(cwds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}

    def process(rank: int) -> subprocess.CompletedProcess[str]:
        told = {
            "torchrun": {
                **{"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"},
                **{"WORLD_SIZE": f"{number}", "LOCAL_WORLD_SIZE": f"{number}", "GROUP_WORLD_SIZE": "1"},
            },
            "srun": {
                **{"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "scenes", "SLURM_NODELIST": "localhost"},
                **{"SLURM_NTASKS": f"{number}", "SLURM_NTASKS_PER_NODE": f"{number}"},
                **{"SLURM_NNODES": "1", "SLURM_NODEID": "0"},
                **{"SLURM_PROCID": f"{rank}", "SLURM_LOCALID": f"{rank}"},
            },
        }
        return forked(module, *arguments, cwd=cwds[rank], env={**env, **group, **told[by]}, timeout=timeout)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(process, range(number)))


def program(path: Path, module: str) -> None:
    """Writes a program that runs `python -m MODULE`, the imports already done; it works while the tests run."""
    address = f"{path}.socket"
    with socket.create_server(address, family=socket.AF_UNIX) as server:
        CONTEXT.Process(target=_serve, args=(server, module), daemon=True).start()
    path.write_text(f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
    socket.send_fds(server, [call.encode()], [0, 1, 2])
    sys.exit(int(server.recv(8) or 1))
""")
    path.chmod(0o755)


def _serve(server: socket.socket, module: str) -> None:
    while True:
        caller, _ = server.accept()
        if os.fork():
            caller.close()
            continue
        status = 1
        try:
            call, streams, _, _ = socket.recv_fds(caller, 1 << 20, 3)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            arguments, cwd, env = json.loads(call)
            _become(module, arguments, cwd, env)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            caller.send(str(status).encode())
            os._exit(status)


def _become_written(
    module: str, arguments: Sequence[str], cwd: Path, env: dict[str, str], outputs: tuple[Path, Path]
) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    _become(module, arguments, cwd, env)


def _become(module: str, arguments: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
