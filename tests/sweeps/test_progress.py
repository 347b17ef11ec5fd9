from intel_scenes.sweeps import progress
from intel_scenes.sweeps.progress import Progress


def test_a_line_counts_the_runs_and_estimates_the_time_left():
    begun = Progress(total=36, skipped=2, started="", number=7, failed=1)
    assert begun.line() == "run 7 of 36, 2 skipped, 1 failed"
    begun.seconds = [10.0, 14.0]
    assert begun.line().endswith(", about 6 minutes left")  # 12 seconds for each of the 30 runs from this one on
    begun.number = 36
    assert begun.line() == "run 36 of 36, 2 skipped, 1 failed"  # less than 90 seconds are not reported


def test_progress_is_available_only_during_the_sweep():
    assert progress.current() is None
    with progress.begun(total=6, skipped=4) as begun:
        assert progress.current() is begun
        assert (begun.number, begun.started > "2026") == (4, True)
    assert progress.current() is None
