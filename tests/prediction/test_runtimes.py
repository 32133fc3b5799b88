"""Every runtime answers as the trained network does, opened from a zip, from its unpacked folder and from a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cls.errors import PackageError, PredictionError
from cls.exporting.formats.torchscript import write_torchscript
from cls.package.archive import pack_files
from cls.package.meta import ModelMeta, read_meta
from cls.package.triton_config import CONFIG_FILE_NAME
from cls.people.photos import read_photo, whole_photo
from cls.runtimes import local as openvino_runtime
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import openvino_module
from cls.runtimes.open import open_classifier
from tests.exporting.runs import ExportedBottle
from tests.required_tools import need_module


def probabilities(classifier: Classifier, at: ExportedBottle) -> np.ndarray:
    photos = [read_photo(path) for path in sorted(at.bottle.pictures.iterdir())[:9]]
    crops = np.stack([classifier.preprocessing.cut(photo, whole_photo(photo)) for photo in photos])
    return np.concatenate([classifier.probabilities(crops, batch=batch) for batch in (1, 4, 9)])


def packed(at: ExportedBottle, platform: str, *files: Path) -> Path:
    backend = f'backend: "{platform}"' if platform == "openvino" else f'platform: "{platform}"'
    config = f'name: "top_color" {backend} max_batch_size: 8'
    entries: dict[str, Path | bytes] = {file.name: file for file in files}
    entries |= {"meta.json": at.package / "meta.json", CONFIG_FILE_NAME: config.encode()}
    return pack_files(files[0].with_suffix(".zip"), entries)


@pytest.fixture(scope="module")
def openvino_files(exported: ExportedBottle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    need_module("openvino")
    openvino = openvino_module()
    folder = tmp_path_factory.mktemp("openvino")
    openvino.save_model(openvino.convert_model(exported.package / "model.onnx"), folder / "model.xml", False)
    (folder / "meta.json").write_bytes((exported.package / "meta.json").read_bytes())
    return folder / "model.xml", folder / "model.bin"


def test_openvino(exported: ExportedBottle, openvino_files: tuple[Path, Path]) -> None:
    expected = probabilities(open_classifier(str(exported.run.folder), exported.bottle), exported)
    for model in (packed(exported, "openvino", *openvino_files), openvino_files[0], openvino_files[0].parent):
        opened = open_classifier(str(model), exported.bottle)
        assert opened.runtime.description.startswith("OpenVINO 20")
        np.testing.assert_allclose(probabilities(opened, exported), expected, atol=1e-5)


def test_torchscript(exported: ExportedBottle, tmp_path: Path) -> None:
    expected = probabilities(open_classifier(str(exported.run.folder), exported.bottle), exported)
    model = tmp_path / "model.pt"
    write_torchscript(exported.run.load_network(), exported.run.preprocessing, model)
    (tmp_path / "meta.json").write_bytes((exported.package / "meta.json").read_bytes())
    for source in (packed(exported, "pytorch_libtorch", model), model, tmp_path):
        opened = open_classifier(str(source), exported.bottle)
        assert opened.runtime.description.startswith("TorchScript, PyTorch")
        np.testing.assert_allclose(probabilities(opened, exported), expected, atol=1e-5)


def test_a_network_that_has_everything_inside(exported: ExportedBottle) -> None:
    plain = open_classifier(str(exported.package), exported.bottle)

    class Inside:
        description = "inside"

        def logits(self, images: np.ndarray) -> np.ndarray:
            assert (images.dtype, images.shape[1:]) == (np.uint8, (64, 48, 3))
            return plain.probabilities(images)

    meta = read_meta(exported.package / "meta.json")
    whole = Classifier(
        meta.group, "x", meta.labels, meta.threshold_values, plain.preprocessing, Inside(), "x", is_end_to_end=True
    )
    np.testing.assert_allclose(probabilities(whole, exported), probabilities(plain, exported), atol=1e-6)


def test_what_is_no_network_is_one_line(
    exported: ExportedBottle, openvino_files: tuple[Path, Path], tmp_path: Path
) -> None:
    meta = (exported.package / "meta.json").read_bytes()
    for name, case in (("model.xml", "missing_weights"), ("model.pt", "invalid_model")):
        (tmp_path / name).write_bytes(b"no network")
        (tmp_path / "meta.json").write_bytes(meta)
        with pytest.raises(PredictionError) as caught:
            open_classifier(str(tmp_path / name), exported.bottle)
        assert caught.value.code == f"prediction.{case}"
        assert "\n" not in caught.value.line()
    (tmp_path / "model.bin").write_bytes(openvino_files[1].read_bytes())
    with pytest.raises(PredictionError) as caught:
        open_classifier(str(tmp_path / "model.xml"), exported.bottle)
    assert caught.value.code == "prediction.invalid_model"
    (tmp_path / "meta.json").unlink()
    for name in ("model.xml", "model.pt"):
        with pytest.raises(PackageError) as caught:
            open_classifier(str(tmp_path / name), exported.bottle)
        assert caught.value.code == "package.missing_file"
        assert "meta.json" in caught.value.what


def test_weights_cut_off(exported: ExportedBottle, openvino_files: tuple[Path, Path], tmp_path: Path) -> None:
    graph, weights = (tmp_path / file.name for file in openvino_files)
    graph.write_bytes(openvino_files[0].read_bytes())
    weights.write_bytes(openvino_files[1].read_bytes()[:1000])
    (tmp_path / "meta.json").write_bytes((exported.package / "meta.json").read_bytes())
    with pytest.raises(PredictionError) as caught:
        open_classifier(str(graph), exported.bottle)
    assert caught.value.code == "prediction.invalid_model"


def test_openvino_not_installed(
    exported: ExportedBottle, openvino_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_runtime.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PredictionError) as caught:
        open_classifier(str(openvino_files[0]), exported.bottle)
    assert caught.value.code == "prediction.runtime_unavailable"
    assert "pip install -e '.[openvino]'" in caught.value.what


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys; from cls.runtimes.local import openvino_module; openvino_module().Core();"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


_TWO_NETWORKS_GO_IN_ORDER = """
import signal, subprocess, sys
from pathlib import Path
from cls.runtimes.local import OpenvinoRuntime

signal.signal(signal.SIGCHLD, lambda number, frame: print("a child ended"))
graph, weights = (Path(name).read_bytes() for name in sys.argv[1:])
first, second = (OpenvinoRuntime((graph, weights), "here", threads=1) for _ in range(2))
del first
del second
subprocess.run([sys.executable, "-c", ""], check=True)
"""


def test_signals_are_survived_after_networks_that_went(openvino_files: tuple[Path, Path]) -> None:
    """Of use on CPUs with AMX alone: elsewhere OpenVINO leaves the stack for signals as it is, and nothing can fail."""
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _TWO_NETWORKS_GO_IN_ORDER, *map(str, openvino_files)],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "a child ended\n"), ended.stderr


def test_threads_that_come_first_together_have_one_core() -> None:
    code = (
        "import threading\n"
        "from cls.runtimes.local import openvino_core, openvino_module\n"
        "module = openvino_module()\n"
        "made, gate, cores = [], threading.Barrier(8), []\n"
        "class Slow(module.Core):\n"
        "    def __init__(self):\n"
        "        made.append(self)\n"
        "        threading.Event().wait(0.05)\n"
        "        super().__init__()\n"
        "module.Core = Slow\n"
        "def come():\n"
        "    gate.wait()\n"
        "    cores.append(openvino_core())\n"
        "threads = [threading.Thread(target=come) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(len(made), len(cores), len(set(map(id, cores))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1 8 1\n", done.stderr


def test_the_meta_of_the_tests_is_a_plain_graph(exported: ExportedBottle) -> None:
    meta: ModelMeta = read_meta(exported.package / "meta.json")
    assert not meta.is_end_to_end
