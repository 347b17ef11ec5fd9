"""`python -m intel_scenes.audit`: what is wrong with the images of a folder, and which labels are likely wrong."""

import os

from intel_scenes import cli
from intel_scenes.config import AuditConfig
from intel_scenes.sweeps.runner import Job


def audit(config: AuditConfig, _job: Job) -> None:
    """Looks for what is wrong, prints the answer, and writes a page, a table and a list for `data.exclude`."""
    folder = cli.output_folder(config.output)

    from intel_scenes.auditing import audit as audits  # imports torch, for which --help need not wait
    from intel_scenes.auditing import audit_page

    result = audits.run(config)
    page, *others = audit_page.write(result, folder)
    cli.say(audit_page.told(result))
    cli.say(f"  written to {os.path.relpath(folder / page)}, with {' and '.join(others)}")


if __name__ == "__main__":
    cli.start("audit", audit)
