from __future__ import annotations

import pytest
import torch

from cls.errors import TrainingError
from cls.training.loop.optimizer import FrozenStages, stages_of
from cls.training.network.build import build_network, head_of

ARCH = "resnet10t"


def step(network: torch.nn.Module, frozen: FrozenStages) -> None:
    """One step of training on noise."""
    network.train()
    frozen.set_eval()
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    network(torch.randn(4, 3, 64, 48, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()


def test_frozen_stages_keep_weights_and_statistics_and_the_others_move() -> None:
    torch.manual_seed(0)
    network = build_network(ARCH, 2, 64, 48)
    stages = stages_of(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = FrozenStages(network, 3)
    for _ in range(2):  # last norms start at zero and hold back the first step
        step(network, frozen)
    after = network.state_dict()
    for name, stage in stages.items():
        module = name.rpartition(".")[0]
        same = torch.equal(before[name], after[name])
        assert same == (stage < 3), name
        if f"{module}.running_mean" in after:
            assert torch.equal(before[f"{module}.running_mean"], after[f"{module}.running_mean"]) == (stage < 3), module


def test_the_stem_is_the_first_stage_and_the_head_the_last() -> None:
    network = build_network(ARCH, 2, 64, 48)
    stages = stages_of(network)
    head = next(name for name, parameter in network.named_parameters() if parameter is head_of(network).weight)
    assert stages["conv1.0.weight"] == 0
    assert stages[head] == max(stages.values())


def test_nothing_is_frozen_unless_asked() -> None:
    network = build_network(ARCH, 2, 64, 48)
    FrozenStages(network, 0).set_eval()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("arch", [ARCH, "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_a_backbone_frozen_as_a_whole_is_refused(arch: str) -> None:
    network = build_network(arch, 2, 64, 48)
    last = max(stages_of(network).values())
    with pytest.raises(TrainingError) as caught:
        FrozenStages(network, last)
    assert caught.value.code == "training.too_many_frozen_stages"
    assert f"--freeze {last}" in caught.value.what
    FrozenStages(network, last - 1)
