"""Commands as a user starts them: a Python process of its own.

Most of the time of a short command is that of importing torch, so `forked` begins where that is done: the process comes
from one that has imported everything and done nothing else. `python` starts from nothing.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

# Nothing answers there: what wants to download fails at once.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["intel_scenes.cli", "intel_scenes.training.run"])


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
        process = CONTEXT.Process(target=_become, args=(module, arguments, cwd, dict(env or os.environ), outputs))
        process.start()
        meanwhile(process.pid)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([module, *arguments], timeout)
        stdout, stderr = (path.read_text() for path in outputs)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, stdout, stderr)


def _become(
    module: str, arguments: tuple[str, ...], cwd: Path, env: dict[str, str], outputs: tuple[Path, Path]
) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
