"""`tests.site` finds what a site loads from elsewhere, and links that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site import faults_of


def site(folder: Path, body: str) -> Path:
    (folder / "sub").mkdir()
    (folder / "sub" / "other.html").write_text('<h1 id="here">other</h1>')
    (folder / "style.css").write_text("a { background: url(picture.png) }")
    (folder / "index.html").write_text(body)
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<img src="//cdn.example/x.png">',
        '<link rel="stylesheet" href="http://cdn.example/x.css">',
        "<style>@import 'https://cdn.example/x.css';</style>",
        '<p style="background: url(https://cdn.example/x.png)">',
        '<a href="gone.html">gone</a>',
        '<a href="#gone">gone</a>',
        '<a href="sub/other.html#gone">gone</a>',
        '<a href="sub">a folder</a>',
    ],
)
def test_it_is_found(tmp_path: Path, body: str) -> None:
    assert len(faults_of(site(tmp_path, body))) == 1


def test_what_a_site_may_hold(tmp_path: Path) -> None:
    body = """<h1 id="a b"><a href="sub/other.html#here">1</a><a href="#a%20b">2</a><a href="https://elsewhere.example">3</a>
    <img src="data:image/png;base64,AA=="><link rel="stylesheet" href="style.css"><a href="style.css?v=1">4</a></h1>"""
    assert faults_of(site(tmp_path, body)) == []


def test_a_folder_without_pages_is_no_site(tmp_path: Path) -> None:
    assert len(faults_of(tmp_path)) == 1
