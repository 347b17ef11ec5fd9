"""What makes a run small enough for a test: the overrides DRAWN or other images, then SMALL; of a Trainer, QUIET."""

from typing import Any

DRAWN = ("data=synthetic", "data.num_train=120", "data.num_test=30", "data.store_size=40")
SMALL = (
    *("data.image_size=32", "model=mobilenet_v3_small", "model.weights=null", "epochs=2", "threads=1"),
    *("trainer=cpu", "trainer.enable_progress_bar=false"),
)
QUIET: dict[str, Any] = {
    **{"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0},
    **{"enable_progress_bar": False, "enable_model_summary": False},
}
