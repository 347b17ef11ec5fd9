"""Overrides that make a run small enough for a test: pass DRAWN or other images, then SMALL."""

DRAWN = ("data=synthetic", "data.num_train=120", "data.num_test=30", "data.store_size=40")
SMALL = (
    *("data.image_size=32", "model=mobilenet_v3_small", "model.weights=null", "epochs=2", "threads=1"),
    *("trainer=cpu", "trainer.enable_progress_bar=false"),
)
