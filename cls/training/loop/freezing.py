"""The first stages of a pretrained backbone, kept as they came.

What they see (edges, textures) serves any photo. Leaving them alone about halves a step's time, which buys a larger
input, and a few hundred people cannot spoil them.
"""

from __future__ import annotations

from torch import nn

from cls.errors import TrainingError


class FrozenStages:
    """Stages of a network that are not trained: neither their weights nor the statistics of their norms.

    Args:
        network: of timm; its frozen weights no longer ask for gradients.
        count: how many stages from the input on, the stem being the first; 0: none.

    Raises:
        TrainingError: the network has no more stages than that beside its head.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        self._modules: list[nn.Module] = []
        if not count:
            return
        stages = stages_of(network)
        last = max(stages.values(), default=0)
        if count >= last:
            raise TrainingError(
                f"--freeze {count}: {type(network).__name__} has {last} stages before its head, and one must be left "
                "to train",
                hint=f"give --freeze 0 to {max(last - 1, 0)}",
            )
        frozen = {name for name, stage in stages.items() if stage < count}
        for name, parameter in network.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)
        for prefix, module in network.named_modules():
            own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
            if own and all(name in frozen for name in own):
                self._modules.append(module)

    def rest(self) -> None:
        """Puts the frozen modules into evaluation mode; called whenever training mode was switched on."""
        for module in self._modules:
            module.eval()


def stages_of(network: nn.Module) -> dict[str, int]:
    """The stage of each weight, counted from the input: 0 is the stem, the last one the head (timm knows them)."""
    from timm.models._manipulate import group_with_matcher

    matcher = network.group_matcher(coarse=True)  # type: ignore[operator]
    groups = group_with_matcher(network.named_parameters(), matcher, reverse=True)
    order = {number: place for place, number in enumerate(sorted(set(groups.values())))}
    return {str(name): order[number] for name, number in groups.items()}
