from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cls.errors import TrainingError
from cls.exporting.formats.onnx import write_onnx
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.loop.optimizer import optimizer_for
from cls.training.network.build import StripePool, build_network, check_size, head_of, pool_by_stripes, stripes_of

ARCH = "resnet10t"


def test_stripes_are_means_and_maxima_from_top_to_bottom() -> None:
    maps = torch.arange(2 * 3 * 5 * 2, dtype=torch.float32).view(2, 3, 5, 2)
    pooled = StripePool(2)(maps)
    top, bottom = maps[:, :, :2], maps[:, :, 2:]  # of five rows, two and three
    expected = [top.mean((2, 3)), bottom.mean((2, 3)), top.amax((2, 3)), bottom.amax((2, 3))]
    assert torch.equal(pooled, torch.cat(expected, dim=1))


def test_a_mark_in_one_stripe_moves_that_stripe_alone() -> None:
    maps = torch.zeros(1, 1, 8, 3)
    maps[0, 0, 7, 1] = 1.0
    pooled = StripePool(4)(maps)[0]
    assert pooled.nonzero().flatten().tolist() == [3, 7]


def test_a_network_gets_stripes_and_a_head_that_fits() -> None:
    network = pool_by_stripes(build_network(ARCH, 3, 128, 64), 4)
    assert head_of(network).in_features == 512 * 2 * 4
    assert network.eval()(torch.zeros(2, 3, 128, 64)).shape == (2, 3)
    assert stripes_of(build_network(ARCH, 3, 128, 64), network.state_dict()) == 4
    assert stripes_of(build_network(ARCH, 3, 128, 64), build_network(ARCH, 3, 128, 64).state_dict()) == 0


def test_no_stripes_leave_the_network_as_it_is() -> None:
    network = build_network(ARCH, 3, 128, 64)
    head = head_of(network)
    assert head_of(pool_by_stripes(network, 0)) is head


@pytest.mark.parametrize("arch", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_a_network_without_a_map_before_its_head_is_refused(arch: str) -> None:
    with pytest.raises(TrainingError) as caught:
        pool_by_stripes(build_network(arch, 2, 64, 48), 2)
    assert caught.value.code == "training.stripes_unsupported"


def test_more_stripes_than_rows_are_refused() -> None:
    network = pool_by_stripes(build_network(ARCH, 2, 64, 48), 4)
    with pytest.raises(TrainingError) as caught:
        check_size(network, ARCH, 64, 48)
    assert caught.value.code == "network.unsupported_input_size"
    assert " 4 stripes " in caught.value.what
    assert " 2 rows" in caught.value.what


def test_a_wide_head_learns_at_a_rate_by_its_width() -> None:
    config = TrainConfig("hat", lr=0.01)
    plain, wide = build_network(ARCH, 2, 128, 64), pool_by_stripes(build_network(ARCH, 2, 128, 64), 4)
    rates = [optimizer_for(network, config, is_pretrained=True).param_groups[-1]["lr"] for network in (plain, wide)]
    assert rates == pytest.approx([0.01, 0.01 / 8])


def test_stripes_become_onnx_with_any_batch(tmp_path: Path) -> None:
    network = pool_by_stripes(build_network(ARCH, 2, 64, 48), 2)
    mean = (0.5, 0.5, 0.5)
    write_onnx(network, Preprocessing(64, 48, mean_rgb=mean, std_rgb=mean), ("cap", "hat"), tmp_path / "model.onnx")
