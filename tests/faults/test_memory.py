"""Too little memory (RLIMIT_AS) ends a run with a sentence that names a batch size, which completes it."""

import re
import resource
from pathlib import Path

import pytest

from intel_scenes.errors import UserError
from intel_scenes.record import Origin, Status, Summary
from intel_scenes.training.claim import Place
from tests.process import CONTEXT
from tests.small import DRAWN, SMALL, asked

COMMON = (*DRAWN, *SMALL, "model=resnet9_x0_5", "recipe=plain", "epochs=1", "data.image_size=128", "augment=none")
SMALL_BATCH, LARGE_BATCH = 4, 96
SPARE = 200 << 20  # stacks and arenas of threads, which are mapped and not used


def limited(place: Path, cache: Path) -> None:
    """With the memory that small batches need by the forecast, run with large ones, then with those that were named."""
    from intel_scenes.runtime import runtime_of_trainer
    from intel_scenes.training.build import build_data
    from intel_scenes.training.cost_forecast import time_run
    from intel_scenes.training.dry_run import dry_run
    from intel_scenes.training.epoch_budget import with_steps
    from intel_scenes.training.run import run

    settings = [*COMMON, f"data.cache_dir={cache}", "++trainer.limit_train_batches=3"]
    small, large = (asked(*settings, f"data.batch_size={size}") for size in (SMALL_BATCH, LARGE_BATCH))
    data = build_data(small)
    mapped, resident = (
        int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()[:2]
    )
    costs = time_run(with_steps(small, data, 1, folder=None), None, data, runtime_of_trainer(small.trainer, 1)).costs
    assert costs.peak_bytes is not None
    limit = mapped + costs.peak_bytes - resident + costs.state_bytes + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with pytest.raises(UserError) as forecast:
        dry_run(large, Origin())
    (place / "forecast.txt").write_text(str(forecast.value))
    with pytest.raises(UserError) as failed:
        run(large, Place(place / "large"), Origin())
    (place / "large.txt").write_text(str(failed.value))
    (named,) = re.findall(r"set (data.batch_size=\d+), of which a few steps fit", str(failed.value))
    run(asked(*settings, named), Place(place / "named"), Origin())


@pytest.mark.slow
def test_a_run_out_of_memory_names_a_batch_size_that_completes_it(tmp_path: Path, cache: Path) -> None:
    process = CONTEXT.Process(target=limited, args=(tmp_path, cache))
    process.start()
    process.join()
    assert process.exitcode == 0
    said = (tmp_path / "large.txt").read_text()
    pattern = (
        r"out of memory \(DefaultCPUAllocator: can't allocate memory: you tried to allocate .*\): set "
        r"data\.batch_size=\d+, of which a few steps fit, lower data\.image_size, or choose another model; "
        r"dry_run=true says how much a run needs"
    )
    assert re.fullmatch(pattern, said)
    assert re.fullmatch(pattern, (tmp_path / "forecast.txt").read_text())
    failed, completed = (Summary.read(tmp_path / name) for name in ("large", "named"))
    assert failed is not None
    assert (failed.status, failed.error) == (Status.FAILED, said)
    assert completed is not None
    assert completed.status is Status.COMPLETED
    assert completed.batch_size is not None
    assert SMALL_BATCH / 2 < completed.batch_size < LARGE_BATCH
