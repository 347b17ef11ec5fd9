"""Commands as a user starts them: a Python process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


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
