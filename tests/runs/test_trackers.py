import sys
from types import SimpleNamespace

from lightning.pytorch import loggers

from intel_scenes.runs.trackers import WandbLogger


def test_each_training_is_a_run_of_its_own_even_after_one_that_failed_before_it_began(monkeypatch):
    wandb = SimpleNamespace(run="of a training that failed")
    wandb.finish = lambda exit_code: setattr(wandb, "run", None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(loggers.WandbLogger, "__init__", lambda self, **options: setattr(self, "options", options))
    logger = WandbLogger(project="p")
    assert logger.options == {"project": "p"}
    assert wandb.run is None


def test_a_run_of_wandb_ends_with_its_training(monkeypatch):
    ended = []
    experiment = SimpleNamespace(finish=lambda exit_code: ended.append(exit_code))
    monkeypatch.setattr(loggers.WandbLogger, "__init__", lambda self, **options: None)
    monkeypatch.setattr(loggers.WandbLogger, "finalize", lambda self, status: None)
    monkeypatch.setattr(loggers.WandbLogger, "experiment", experiment)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None))
    for status in ("success", "failed"):
        WandbLogger().finalize(status)
    assert ended == [0, 1]
