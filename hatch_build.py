"""The long description on a package index: the README without what lies beside it in the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = r"\((?!https?:)[^)]*\)"


class LongDescription(MetadataHookInterface):
    """Metadata hook that fills in `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` without pictures of the repository, and with the text alone of links into it."""
        text = Path(self.root, "README.md").read_text()
        text = re.sub(rf"!\[[^\]]*\]{RELATIVE}\n*", "", text)
        text = re.sub(rf"\[([^\]]+)\]{RELATIVE}", r"\1", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
