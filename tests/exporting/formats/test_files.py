from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from cls.errors import ExportError
from cls.exporting.formats.onnx import write_onnx
from cls.exporting.formats.torchscript import PREPROCESSING_ENTRY, write_torchscript
from cls.people.preprocess import Preprocessing

SIZE = Preprocessing(64, 48)
LABELS = ("schwarzes Haar", "żółty", "red hair")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=3).train()


@pytest.fixture(scope="module")
def onnx_file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(network, SIZE, LABELS, path)
    return path


def expected(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        logits = network(images).numpy()
    network.train(was_training)
    return logits


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_onnx_answers_as_the_network(network: nn.Module, onnx_file: Path, batch: int) -> None:
    images = torch.randn(batch, 3, 64, 48)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, expected(network, images), atol=1e-4)


def test_onnx_is_one_file_with_labels_and_preprocessing_and_no_paths(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    props = {
        prop.key: json.loads(prop.value) if prop.key != "activation" else prop.value for prop in model.metadata_props
    }
    assert props["labels"] == list(LABELS)
    assert Preprocessing.from_dict(props["preprocessing"]) == SIZE
    assert props["activation"] == "sigmoid"
    assert [path.name for path in onnx_file.parent.iterdir()] == ["model.onnx"]
    content = onnx_file.read_bytes()
    assert b"site-packages" not in content
    assert str(Path.cwd()).encode() not in content
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_onnx_has_the_same_bytes_again(network: nn.Module, onnx_file: Path, tmp_path: Path) -> None:
    write_onnx(network, SIZE, LABELS, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == onnx_file.read_bytes()


def test_the_network_is_left_as_it_was(network: nn.Module, onnx_file: Path) -> None:
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_torchscript_answers_as_the_network(
    network: nn.Module, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "torchscripts" / "model.pt"
    write_torchscript(network, SIZE, path)
    assert not recwarn.list
    extra = {PREPROCESSING_ENTRY: ""}
    loaded = torch.jit.load(str(path), _extra_files=extra)
    assert Preprocessing.from_dict(json.loads(extra[PREPROCESSING_ENTRY])) == SIZE
    images = torch.randn(7, 3, 64, 48)
    np.testing.assert_allclose(loaded(images).detach().numpy(), expected(network, images), atol=1e-4)


class _Ratios(nn.Module):
    """Divides in ways that old versions of TorchScript's file format gave another meaning."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = torch.tensor(images.shape[2:]).sum()
        return torch.cat([images.mean((2, 3)) / 3, (images.sum((1, 2, 3)) / size)[:, None]], dim=1) / size


def test_torchscript_is_read_as_the_version_it_was_written_in(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_torchscript(_Ratios(), SIZE, path)
    saved = io.BytesIO()
    torch.jit.save(torch.jit.trace(_Ratios(), torch.zeros(2, 3, 64, 48)), saved)
    saved.seek(0)
    versions = [torch._C.PyTorchFileReader(file).get_record("version") for file in (str(path), saved)]
    assert versions[0] == versions[1]
    images = torch.randn(7, 3, 64, 48)
    np.testing.assert_allclose(torch.jit.load(str(path))(images), _Ratios()(images), rtol=1e-5, atol=1e-7)


def test_labels_that_do_not_fit(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        write_onnx(network, SIZE, LABELS[:2], tmp_path / "a.onnx")
    assert caught.value.code == "export.label_count_mismatch"
    assert re.findall(r"\d+", caught.value.what) == ["3", "2"]
    assert not list(tmp_path.iterdir())


class _FixedBatch(nn.Module):
    """Answers for two pictures whatever it is given, once traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = [images[index].mean() for index in range(int(images.shape[0]))]
        return torch.stack(rows)[:, None]


def test_a_batch_size_kept_fixed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        write_torchscript(_FixedBatch(), SIZE, tmp_path / "a.pt")
    assert caught.value.code == "export.fixed_batch_size"
    assert "TorchScript" in caught.value.what
    assert "batch of 1" in caught.value.what
    with pytest.raises(ExportError) as caught:
        write_onnx(_FixedBatch(), SIZE, ("a",), tmp_path / "a.onnx")
    assert caught.value.code == "export.fixed_batch_size"
    assert "ONNX" in caught.value.what
    assert "batch of 1" in caught.value.what
    assert not list(tmp_path.iterdir())


class _WindowedAttention(nn.Module):
    """Attention within windows, as timm's hierarchical transformers have it: (batch, heads, windows, tokens, width)."""

    def __init__(self, *, is_fused: bool = True) -> None:
        super().__init__()
        self.fused_attn = is_fused

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images[:, :, :8, :32].reshape(-1, 3, 2, 4, 32)
        if self.fused_attn:
            mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        else:
            mixed = (tokens @ tokens.transpose(-2, -1) / 32**0.5).softmax(-1) @ tokens
        return mixed.mean((2, 3, 4))


def test_windowed_attention_is_converted_by_the_same_arithmetic_written_out(tmp_path: Path) -> None:
    network = _WindowedAttention()
    write_onnx(network, SIZE, LABELS, tmp_path / "model.onnx")
    assert network.fused_attn
    images = torch.randn(5, 3, 64, 48)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, expected(network, images), atol=1e-5)


class _NotConvertible(nn.Module):
    """Does what the exporter has no operator for."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images[:, :, :8, :32].reshape(-1, 3, 2, 4, 32)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean((2, 3, 4))


def test_what_cannot_be_converted_names_the_cause_in_one_plain_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        write_onnx(_NotConvertible(), SIZE, LABELS, tmp_path / "model.onnx")
    assert caught.value.code == "export.conversion_failed"
    assert "AssertionError: only 4D" in caught.value.what
    assert caught.value.what.isprintable()
    assert not list(tmp_path.iterdir())
