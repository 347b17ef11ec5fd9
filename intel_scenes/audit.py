"""`intel-scenes audit`: find unreadable, odd and duplicate images in a data set, and labels that are likely wrong."""

import os

from intel_scenes import cli
from intel_scenes.config import AuditConfig
from intel_scenes.errors import counted
from intel_scenes.sweeps.runner import Job


def audit(config: AuditConfig, _job: Job) -> None:
    """Audit a data set, print a summary, and write a page, a table and a list for `data.exclude`."""
    folder = cli.output_folder(config.output)

    from intel_scenes.auditing import audit_page  # imports torch, which --help does not need
    from intel_scenes.auditing.audit_images import EXCLUDE, audit_images

    result = audit_images(config)
    names = audit_page.write(result, folder)
    place = os.path.relpath(folder)
    cli.say(audit_page.summary_text(result))
    cli.say(f"\nwritten to {place}: {', '.join(names)}")
    if EXCLUDE in names and result.num_excluded:
        images = counted(result.num_excluded, "training image")
        cli.say(f"to train without the {images} in {EXCLUDE}: data.exclude={os.path.join(place, EXCLUDE)}")
    elif EXCLUDE in names:
        cli.say(f"{EXCLUDE} lists no image: there is nothing to leave out")
    if any(finding.kind == "unreadable" for finding in result.findings):
        cli.say("to train without the unreadable images: data.on_unreadable=skip")


if __name__ == "__main__":
    cli.start("audit", audit)
