"""What `make docs` checks of the built site: nothing is loaded from elsewhere, every link within it leads somewhere.

`python -m tests.site build/docs` prints what is wrong, and ends with 1 where something is.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that make a browser load something; a link's `href` loads nothing, but that of `<link>` does.
_LOADING = ("src", "srcset", "data", "poster", "action")
_IN_STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:[a-z]+:)?//[^\"')\s]+)")


@dataclass
class Page(HTMLParser):
    """What a page holds."""

    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what a tag loads, links and names."""
        for name, value in attrs:
            if name in _LOADING or (tag == "link" and name == "href"):
                self.loaded.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.anchors.add(value or "")


def faults_of(site: Path) -> list[str]:
    """What is wrong with a built site, one line each."""
    pages = {path: Page() for path in sorted(site.rglob("*.html"))}
    faults = [] if pages else [f"{site}: there are no pages"]
    for path, page in pages.items():
        page.feed(path.read_text(encoding="utf-8"))
    for path, page in pages.items():
        name = path.relative_to(site)
        faults += [f"{name} loads {url}" for url in page.loaded if _is_elsewhere(url)]
        faults += [f"{name} links {url}, which is not there" for url in page.links if _is_broken(url, path, pages)]
    for path in (*pages, *site.rglob("*.css")):
        found = _IN_STYLES.findall(path.read_text(encoding="utf-8"))
        faults += [f"{path.relative_to(site)} loads {url}" for url in found]
    return faults


def _is_elsewhere(url: str) -> bool:
    parts = urlsplit(url.strip())
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def _is_broken(url: str, path: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link within the site leads nowhere; others are not looked at."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target not in pages:
        return not target.is_file()
    return bool(parts.fragment) and unquote(parts.fragment) not in pages[target].anchors


def main() -> int:
    """Checks the site that the command line names."""
    faults = faults_of(Path(sys.argv[1]).resolve())
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
