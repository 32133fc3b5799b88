"""Every page in a real browser: axe's rules, light and dark, wide and narrow; nothing loaded from others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cls.exporting.parity.page import write_page as write_parity_page
from cls.exporting.parity.report import NotCompared, OtherFormat, WorstSample
from cls.exporting.publish import classifier_of_run
from cls.pages.render import jpeg_bytes, picture_url, write_page
from cls.people.photos import read_photo
from cls.prediction.contact_sheet import SheetCounts, SheetPerson, SheetText, write_contact_sheet
from cls.prediction.tables import PersonResult
from cls.segmentation.gallery import GalleryConfig, build_gallery
from tests.exporting.parity.test_page import report_of
from tests.exporting.runs import ExportedBottle
from tests.model_storage.services import running_storage
from tests.required_tools import need_module, need_program
from tests.training.report.test_page import many_labels

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = ("report", "parity", "contact sheet", "mask gallery", "demo", "model card", "model storage")
WIDTHS_PX = (1400, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all pages; not longer, as its event loop would be in the way of other tests'."""
    need_module("playwright")
    need_module("axe_playwright_python")
    need_program("chromium", "chromium")
    from playwright.sync_api import sync_playwright

    options = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield chromium
        chromium.close()


def contact_sheet(path: Path, at: ExportedBottle) -> Path:
    classifier = classifier_of_run(at.run)
    crop = read_photo(at.bottle.picture("0000.jpeg"))
    probs = dict(zip(classifier.labels, (0.91, 0.42, 0.07), strict=True))
    counts, shown = SheetCounts(photos=3), []
    for number, labels in enumerate((classifier.labels[:1], (), classifier.labels)):
        box = (1.0, 1.0, 30.0, 60.0)
        result = PersonResult(f"folder/{number:064x}.jpeg", "0", "female", 0.9, box, probs, labels)
        counts.add(result)
        shown.append(SheetPerson(result, jpeg_bytes(crop)))
    counts.people += 600
    about = SheetText("predictions.csv", "of the model", {"a": "b"})
    write_contact_sheet(path, classifier, shown, counts, about)
    return path


def demo(path: Path, at: ExportedBottle) -> Path:
    image = picture_url(read_photo(at.bottle.picture("0000.jpeg")))
    box = {"left": 10, "top": 10, "width": 50, "height": 80, "is_main": True}
    bars = [{"label": "blue", "percent": 91.0, "text": "0.91", "is_chosen": True}]
    photo = {"name": "0.jpeg", "image": image, "width_percent": 60, "boxes": [box], "nothing": "none of top_color",
             "bars": bars}  # fmt: skip
    right = {**photo, "chips": [{"name": "blue"}], "truth": "blue", "is_right": True}
    wrong = {**photo, "chips": [], "truth": "red", "is_right": False}
    values = {
        "group": "top_color", "version": "0.0.1", "source": "the sample photo set", "numbers": [("0.98", "F1")],
        "photos": [right, wrong, {**right, "truth": None}], "photos_note": "Photos of people not seen in training.",
        "products": [{"what": "training run", "path": "classification_data/models/top_color/v__0"}],
        "steps": [{"title": "train", "command": "cls train " + "--option value " * 20, "seconds": "9.1",
                   "was_done": done} for done in (True, False)],
    }  # fmt: skip
    write_page(path, "demo/page.html", values)
    return path


def parity(path: Path) -> Path:
    worst = WorstSample("1.jpeg", "hat", 1, 0.61, 0.59, 0.6)
    others = {
        "openvino": OtherFormat(state="not made", reason="no OpenVINO"),
        "onnx": OtherFormat(state="agrees", reason="", page="other.html"),
    }
    formats = {"onnx_int8": report_of(worst), "trt": NotCompared(faults=("no GPU",))}
    write_parity_page(path, "hat", "v__0", formats, others)
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, exported: ExportedBottle) -> Iterator[Mapping[str, str]]:
    """Name -> URL of a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    at = exported.copy_to(folder / "bottle")
    files = {
        "report": many_labels(folder, ("чёрные волосы", "red top", "bag"), 60, left_out=3),
        "parity": parity(folder / "parity.html"),
        "contact sheet": contact_sheet(folder / "sheet.html", at),
        "mask gallery": build_gallery(at.bottle, at.run.group, GalleryConfig()).pages[0],
        "model card": at.package.parent / "model_card.html",
        "demo": demo(folder / "demo.html", at),
    }
    with running_storage(folder / "storage") as storage:
        assert storage.upload(at.package / "model_onnx.zip", "top_color", "0.0.1").status_code == 200
        yield {name: file.as_uri() for name, file in files.items()} | {"model storage": f"{storage.url}/docs"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_pass_axe(browser: Browser, pages: Mapping[str, str], name: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(color_scheme=scheme, viewport={"width": WIDTHS_PX[0], "height": 900})  # type: ignore[arg-type]
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(pages[name])
    if name == "model storage":
        page.wait_for_selector("details")  # drawn from the service's own description of its interface
        page.wait_for_selector("#models dt")
        links = page.evaluate("[...document.querySelectorAll('a')].map(one => one.href)")
        paths = {link.partition(pages[name].removesuffix("docs"))[2] for link in links if "#" not in link}
        assert paths == {"index/", "health", "openapi.json", "versions/top_color", "get_meta/top_color"}
        assert all(page.request.get(link).ok for link in links)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    if name == "mask gallery":
        page.locator(".mark").first.click()
    for width_px in WIDTHS_PX:
        page.set_viewport_size({"width": width_px, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width_px, "the page scrolls sideways"
        found = Axe().run(page).response
        assert found["passes"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    assert errors == []
    own = pages[name].rpartition("/")[0]
    assert [url for url in requests if not url.startswith((own, "data:", "blob:"))] == []
    page.close()
