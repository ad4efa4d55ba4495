"""The description of the built package: README.md, in a form that needs no other file beside it."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

NOTE = "(Names in square brackets are those of files in the source archive of this package.)"


def standing_alone(readme: str) -> str:
    """README.md with a name in square brackets for each link to, and for each picture in, a file of the repository."""
    title, rest = readme.split("\n", 1)
    text = re.sub(r"!\[([^\]]+)\]\(([^)\s]+)\)", r"Picture: \1 [`\2`]", rest)
    text = re.sub(r"\[([^\]]+)\]\((?!https?://)([^)\s]+)\)", r"\1 [`\2`]", text)
    return f"{title}\n\n{NOTE}\n{text}"


class DescriptionHook(MetadataHookInterface):
    """Gives hatchling the description while it builds the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the description into the project's metadata."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": standing_alone(readme)}
