"""Too little memory (RLIMIT_AS) ends a run with a sentence; a batch that fits by the forecast completes it."""

import resource
from pathlib import Path

import pytest

from intel_scenes.errors import UserError
from intel_scenes.record import Origin, Status, Summary
from intel_scenes.training.claim import Place
from tests.process import CONTEXT
from tests.small import DRAWN, SMALL, asked

COMMON = (*DRAWN, *SMALL, "model=resnet9_x0_5", "recipe=plain", "epochs=1", "data.image_size=64", "augment=none")
SMALL_BATCH, LARGE_BATCH = 4, 96
SPARE = 200 << 20  # stacks and arenas of threads, which are mapped and not used


def limited(place: Path, cache: Path) -> None:
    """With the memory that small batches need by the forecast, run with large ones, then with small ones."""
    from intel_scenes.runtime import runtime_of_trainer
    from intel_scenes.training.build import build_data
    from intel_scenes.training.epoch_budget import with_steps
    from intel_scenes.training.run import run
    from intel_scenes.training.run_cost import time_run

    settings = [*COMMON, f"data.cache_dir={cache}", "++trainer.limit_train_batches=3"]
    small = asked(*settings, f"data.batch_size={SMALL_BATCH}")
    data = build_data(small)
    mapped, resident = (
        int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()[:2]
    )
    costs = time_run(with_steps(small, data, 1, folder=None), None, data, runtime_of_trainer(small.trainer, 1)).costs
    assert costs.peak_bytes is not None
    limit = mapped + costs.peak_bytes - resident + costs.state_bytes + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for batch_size in (LARGE_BATCH, SMALL_BATCH):
        try:
            run(asked(*settings, f"data.batch_size={batch_size}"), Place(place / str(batch_size)), Origin())
        except UserError as error:
            (place / f"{batch_size}.txt").write_text(str(error))


@pytest.mark.slow
def test_a_run_out_of_memory_is_a_sentence_and_completes_with_the_batch_that_fits(tmp_path: Path, cache: Path) -> None:
    process = CONTEXT.Process(target=limited, args=(tmp_path, cache))
    process.start()
    process.join()
    assert process.exitcode == 0
    said = (tmp_path / f"{LARGE_BATCH}.txt").read_text()
    assert said.startswith("out of memory (DefaultCPUAllocator: can't allocate memory: you tried to allocate ")
    assert said.endswith(
        "): lower data.batch_size or data.image_size, or choose another model; dry_run=true says how much a run needs"
    )
    failed, completed = (Summary.read(tmp_path / str(size)) for size in (LARGE_BATCH, SMALL_BATCH))
    assert failed is not None
    assert (failed.status, failed.error) == (Status.FAILED, said)
    assert not (tmp_path / f"{SMALL_BATCH}.txt").exists()
    assert completed is not None
    assert completed.status is Status.COMPLETED
