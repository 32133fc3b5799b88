"""Links between pages that belong together."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from cls.errors import FileError
from cls.exporting.publish import _write_and_link_pages
from cls.pages.render import drop_dead_links, link_pages, set_links, write_page
from cls.segmentation.gallery import GalleryConfig, build_gallery
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle
from tests.prediction.inferring import infer


def page(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, "pages/page.html", {})
    return path


def links(path: Path) -> dict[str, Path]:
    """Title -> file of the links at the head of a page."""
    (nav,) = re.findall(r'<nav class="related".*?</nav>', path.read_text(encoding="utf-8"))
    found = re.findall(r'<a href="([^"]*)">([^<]*)</a>', nav)
    return {title: (path.parent / unquote(target)).resolve() for target, title in found}


def test_pages_link_to_each_other_as_far_as_they_exist_wherever_they_are_moved(tmp_path: Path) -> None:
    run = page(tmp_path / "a" / "models" / "цвет #1 & 2" / "report.html")
    parity = page(tmp_path / "a" / "exported" / "parity.html")
    missing = tmp_path / "a" / "card.html"
    link_pages({"run <1>": run, "parity": parity, "card": missing})
    shutil.move(tmp_path / "a", tmp_path / "b")
    run, parity = (tmp_path / "b" / file.relative_to(tmp_path / "a") for file in (run, parity))
    assert links(run) == {"parity": parity}
    assert links(parity) == {"run &lt;1&gt;": run}
    card = page(tmp_path / "b" / "card.html")
    link_pages({"parity": parity, "card": card})
    assert links(parity) == {"card": card, "run &lt;1&gt;": run}, "links with other titles stay"
    set_links(parity, {"training": run})
    assert links(parity) == {"training": run, "card": card}, "one link to a page"
    link_pages({"run <1>": run, "parity": parity})
    set_links(parity, {"card": None})
    assert links(parity) == {"run &lt;1&gt;": run}


def test_a_page_that_is_written_again_keeps_its_links_to_pages_that_are_there(tmp_path: Path) -> None:
    first, second, third = (page(tmp_path / f"{name}.html") for name in "abc")
    link_pages({"first": first, "second": second, "third": third})
    second.unlink()
    assert links(page(first)) == {"third": third}
    first.write_bytes(b"\xff")
    assert links(page(first)) == {}


def test_links_to_pages_that_are_gone_are_dropped(tmp_path: Path) -> None:
    first, second, third = (page(tmp_path / f"цвет {name}.html") for name in "abc")
    link_pages({"first": first, "second": second, "third": third})
    second.unlink()
    drop_dead_links(first)
    assert links(first) == {"third": third}


def test_a_page_of_an_earlier_version_stays_as_it_is(tmp_path: Path) -> None:
    old = tmp_path / "old.html"
    old.write_text("<h1>report</h1>")
    set_links(old, {"old": old})
    assert old.read_text() == "<h1>report</h1>"
    with pytest.raises(FileError) as caught:
        set_links(tmp_path / "gone.html", {})
    assert caught.value.code == "file.unreadable"


def test_an_export_writes_its_model_card_and_links_it_with_the_parity_report(exported: ExportedBottle) -> None:
    parity, card = (exported.package.parent / name for name in ("parity_report.html", "model_card.html"))
    assert links(parity) == {"model card": card.resolve()}
    assert links(card) == {"parity report": parity.resolve()}
    text = card.read_text(encoding="utf-8")
    for label, threshold in zip(exported.run.labels, exported.run.thresholds, strict=True):
        assert f'<th scope="row">{label}</th><td data-name="threshold">{threshold:.4f}</td>' in text


def test_an_export_links_its_run_and_no_other(copied: ExportedBottle) -> None:
    report = page(copied.run.folder / "report.html")
    other = page(copied.run.folder.with_name("v__9") / "report.html")
    parity = copied.package.parent / "parity_report.html"
    set_links(other, {"parity report": parity})
    _write_and_link_pages(copied.bottle, copied.run)
    assert {*links(report)} == {"parity report", "model card"}
    assert links(report)["parity report"] == parity.resolve()
    assert links(parity)["training report"] == report.resolve()
    assert links(other) == {}


def test_a_mask_gallery_links_to_the_pages_of_its_group_and_they_to_it(copied: ExportedBottle) -> None:
    report = page(copied.run.folder / "report.html")
    (gallery,) = build_gallery(copied.bottle, copied.run.group, GalleryConfig()).pages
    parity, card = (copied.package.parent / name for name in ("parity_report.html", "model_card.html"))
    about = {"training report": report, "parity report": parity, "model card": card}
    assert links(gallery) == {title: file.resolve() for title, file in about.items()}
    _write_and_link_pages(copied.bottle, copied.run)
    for file in about.values():
        assert links(file)["mask gallery"] == gallery.resolve()
    report.unlink()
    build_gallery(copied.bottle, copied.run.group, GalleryConfig())
    assert {*links(gallery)} == {"parity report", "model card"}


def test_every_page_links_those_that_belong_to_it_whichever_command_ran_last(copied: ExportedBottle) -> None:
    page(copied.run.folder / "report.html")
    other = page(copied.run.folder.with_name("v__9") / "report.html")
    demonstration = page(copied.bottle.root / "demonstration.html")

    def masks() -> None:
        build_gallery(copied.bottle, GROUP, GalleryConfig())

    def predictions() -> None:
        assert infer(copied, "--group", GROUP) == 0

    def export() -> None:
        _write_and_link_pages(copied.bottle, copied.run)

    masks()
    predictions()
    pages = {title: file for title, file in copied.bottle.pages(GROUP, copied.run.name).items() if file.is_file()}
    assert len(pages) == 5
    link_pages({**pages, "demonstration": demonstration})
    for last in (masks, predictions, export):
        last()
        for title, file in pages.items():
            expected = {other_title for other_title in pages if other_title != title} | {"demonstration"}
            assert {*links(file)} == expected, (last.__name__, title)
            assert all(target.is_file() for target in links(file).values())
        assert {*links(other)} == {"mask gallery"}


def test_without_a_package_the_newest_run_is_linked_with_the_pages_of_its_group(copied: ExportedBottle) -> None:
    shutil.rmtree(copied.package.parent)
    old, new = (page(copied.run.folder.with_name(name) / "report.html") for name in ("v__1", "v__2"))
    os.utime(old, (1, 1))
    (gallery,) = build_gallery(copied.bottle, GROUP, GalleryConfig()).pages
    assert links(gallery) == {"training report": new.resolve()}
    assert links(old) == links(new) == {"mask gallery": gallery.resolve()}


def test_the_model_card_names_its_column_of_positives(tmp_path: Path) -> None:
    """The last column counts those who have a label, not everybody in validation."""
    card = tmp_path / "model_card.html"
    values = {"group": "hats", "facts": [], "labels": [("cap", "0.5", "0.9", "0.9", "6")], "parity": [], "digests": []}
    write_page(card, "package/model_card.html", values)
    assert '<th scope="col">positives</th>' in card.read_text()
