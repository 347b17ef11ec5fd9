"""`python -m intel_scenes.audit`: what is wrong with the images of a folder, and which labels are likely wrong."""

import os

from omegaconf import DictConfig

from intel_scenes import cli
from intel_scenes.sweeps.runner import Job


def audit(cfg: DictConfig, _job: Job) -> None:
    """Looks for what is wrong, prints the answer, and writes a page, a table and a list for `data.exclude`."""
    folder = cli.output_folder(str(cfg.output))

    from intel_scenes.auditing import audit as audits  # imports torch, for which --help need not wait
    from intel_scenes.auditing import audit_page

    found = audits.run(cfg)
    page, *others = audit_page.write(found, folder)
    cli.say(audit_page.told(found))
    cli.say(f"  written to {os.path.relpath(folder / page)}, with {' and '.join(others)}")


if __name__ == "__main__":
    cli.start("audit", audit)
