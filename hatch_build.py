"""The README as package indexes show it: its links and pictures lead to the repository at this version's tag."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Make relative links absolute where ``[project.urls]`` names a ``Repository``; without one they stay."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme; hatchling calls this."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        if repository is not None:
            text = with_absolute_links(text, repository.rstrip("/"), f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_absolute_links(text: str, repository: str, tag: str) -> str:
    """Put the repository before each relative link of a page, and before each of its pictures."""

    def absolute(found: re.Match[str]) -> str:
        is_picture, words, target = found.groups()
        words = LINK.sub(absolute, words)  # a picture that is a link
        return f"{is_picture}[{words}]({repository}/{'raw' if is_picture else 'blob'}/{tag}/{target})"

    return LINK.sub(absolute, text)
