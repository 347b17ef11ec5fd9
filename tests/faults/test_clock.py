"""A clock that is set back changes dates, and nothing else."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from intel_scenes import files
from intel_scenes.record import Status, Summary
from intel_scenes.sweeps.runner import _failed_since


@pytest.mark.parametrize(("hours", "is_of_this_sweep"), [(0, True), (-2, False), (2, False)])
def test_a_failure_with_a_date_in_the_future_is_tried_again(tmp_path: Path, hours: int, is_of_this_sweep: bool) -> None:
    started = files.now()
    ended = datetime.now(UTC) + timedelta(hours=hours)
    Summary(status=Status.FAILED, ended=ended.isoformat(timespec="seconds")).write(tmp_path)
    assert _failed_since(tmp_path, started) == is_of_this_sweep


def test_a_run_during_which_the_clock_goes_back_has_the_results_of_another(
    run: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = ("model=resnet9_x0_5", "recipe=plain", "data.batch_size=54")
    expected = run(*tiny)
    hours = count(1)  # that the clock has gone back, one more at each look
    begun = datetime.now(UTC)
    monkeypatch.setattr(files, "now", lambda: (begun - timedelta(hours=next(hours))).isoformat(timespec="seconds"))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (begun.timestamp() - 3600 * next(hours))))
    summary = run(*tiny, folder=tmp_path / "back")
    assert summary.started is not None
    assert summary.ended is not None
    assert summary.started > summary.ended
    assert summary.fit_seconds is not None
    assert summary.fit_seconds > 0
    times = {"started": None, "ended": None, "fit_seconds": None, "images_per_second": None, "peak_memory_bytes": None}
    assert replace(summary, **times) == replace(expected, **times)
