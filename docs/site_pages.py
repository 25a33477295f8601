"""A hook of MkDocs: pages that lie outside of docs/ are part of the site, and links between them still lead there."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

TOP = Path(__file__).parents[1]
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def _site_path(path: str) -> str:
    """Where a file of the repository is in the site: docs/studies.md as studies.md, README.md as index.md."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files outside of docs/ that the site links to."""
    outside = ["README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"]
    outside += [path.relative_to(TOP).as_posix() for path in sorted((TOP / "examples").rglob("*")) if path.is_file()]
    for path in outside:
        if "__pycache__" not in path:
            files.append(File.generated(config, _site_path(path), abs_src_path=str(TOP / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links that are relative to the repository; a link to a folder leads to its README, or nowhere."""
    here = page.file.src_uri
    source = "README.md" if here == "index.md" else here if (TOP / here).is_file() else f"docs/{here}"

    def rewrite(match: re.Match[str]) -> str:
        target = match[2]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (TOP / path / "README.md").is_file():
            path = f"{path}/README.md"
        link = posixpath.relpath(_site_path(path), posixpath.dirname(here) or ".")
        return f"{match[1]}{link}{match[3] or ''}{match[4]}"

    markdown = re.sub(r"\[([^\]]+)\]\(conf\)", r"\1", markdown)  # Hydra's tree is no page
    return _LINK.sub(rewrite, markdown)
