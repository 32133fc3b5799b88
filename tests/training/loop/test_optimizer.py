from __future__ import annotations

import pytest

from cls.training.config import TrainConfig
from cls.training.loop.optimizer import optimizer_for, schedule_for
from cls.training.network.build import build_network, head_of


def test_backbone_and_head_learn_at_rates_of_their_own() -> None:
    network = build_network("mobilenetv3_small_050", 2, 64, 48)
    optimizer = optimizer_for(network, TrainConfig("hat", lr=0.01, backbone_lr=0.2, decay=0.1), is_pretrained=True)
    head = {id(parameter) for parameter in head_of(network).parameters()}
    for group in optimizer.param_groups:
        is_head = id(group["params"][0]) in head
        assert group["lr"] == pytest.approx(0.01 if is_head else 0.002)
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] > 0}
    assert id(optimizer.param_groups[-1]["params"][0]) in head
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


def test_layers_far_from_the_head_learn_more_slowly() -> None:
    network = build_network("vit_tiny_patch16_224", 2, 64, 48)
    config = TrainConfig("hat", lr=0.01, backbone_lr=1.0, layer_decay=0.5)
    groups = optimizer_for(network, config, is_pretrained=True).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    first, last = (dict(network.named_parameters())[f"blocks.{n}.attn.qkv.weight"] for n in (0, 11))
    assert rates[id(last)] == pytest.approx(rates[id(first)] * 2**11)
    assert groups[-1]["lr"] == 0.01
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_the_rate_grows_with_the_people_behind_a_step() -> None:
    network = build_network("mobilenetv3_small_050", 2, 64, 48)
    rates = [
        optimizer_for(network, TrainConfig("hat", batch=8, **how), is_pretrained=True).param_groups[-1]["lr"]
        for how in ({"accumulate": 4}, {"devices": 2, "nodes": 2}, {})
    ]  # fmt: skip
    assert rates[0] == rates[1] == pytest.approx(2 * rates[2])


def test_a_line_up_and_a_cosine_down() -> None:
    network = build_network("mobilenetv3_small_050", 2, 64, 48)
    config = TrainConfig("hat", lr=1.0, warmup=0.2)
    schedule = schedule_for(optimizer_for(network, config, is_pretrained=False), config, 20)
    share = schedule.lr_lambdas[-1]
    assert [share(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert share(12) == pytest.approx(0.505)
    assert share(20) == pytest.approx(0.01)
