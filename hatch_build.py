"""The long description on a package index: the README without what lies beside it in the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = r"\((?!https?:)[^)]*\)"


class LongDescription(MetadataHookInterface):
    """Fills in `readme` of the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Leaves out pictures of the repository, and of a link into it all but its text."""
        text = Path(self.root, "README.md").read_text()
        text = re.sub(rf"!\[[^\]]*\]{RELATIVE}\n*", "", text)
        text = re.sub(rf"\[([^\]]+)\]{RELATIVE}", r"\1", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
