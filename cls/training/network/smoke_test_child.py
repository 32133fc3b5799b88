"""The child process of a smoke test: training steps, an evaluation, and what else a training does with a network.

`cls.training.network.smoke_test` starts it, and reads the last line of stdout and the exit status.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cls.errors import ClsError, NetworkError
from cls.machine import end_with_parent
from cls.training.config import TrainConfig
from cls.training.loop.distributed import precision_of, prepare_process, torch_device
from cls.training.loop.optimizer import FrozenStages, optimizer_for
from cls.training.network.build import build_network, head_of, initialise_head, pool_by_stripes
from cls.training.network.smoke_test import CHANNELS_LAST, FORMATS, SmokeTest

# A write past the end of a buffer is often noticed only when the heap is used again.
_STEPS = 2
# Allocating and freeing blocks of these sizes makes the allocator check its lists.
_BLOCK_BYTES = (64, 1 << 10, 1 << 14, 1 << 18, 1 << 22)
# Seen in oneDNN of torch 2.14.1 (AVX2: valgrind; AVX-512: crashes) for 1 to 12 channels, not for 16 to 48.
_FEWEST_CHANNELS = 16
# Share of the gradient's norm: with batch norms of two people, rounding alone gives 0.16 (ConvMixer).
_MOST_DIFFERENCE = 0.5


def main() -> None:
    """Reads a `SmokeTest` from stdin, tests one memory format after the other, and prints the outcome as JSON.

    Does not return: tearing torch and timm down takes a third as long as importing them.
    """
    end_with_parent()
    gc.freeze()  # garbage collection passes over what was imported
    test = SmokeTest.model_validate_json(sys.stdin.read())
    results, sys.stdout = sys.stdout, sys.stderr
    outcome: dict[str, str | None] = {}
    for memory_format in test.formats:
        found = failure_of(test, memory_format)
        if found is None:
            outcome = {"memory_format": memory_format, "not_channels_last": outcome.get("what")}
            break
        outcome = found
    gc.collect()  # freeing the networks is the last chance to find damaged memory
    print(json.dumps(outcome), file=results, flush=True)
    os._exit(0)


def failure_of(test: SmokeTest, memory_format: str) -> dict[str, str | None] | None:
    """Why a network cannot be trained in a memory format (`what`, `code`, `hint`); None where it can."""
    try:
        _train(test, memory_format)
    except ClsError as error:
        return {"what": error.what, "code": error.case, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - a foreign network may raise anything
        text = str(error).strip()
        return {"what": f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__}
    return None


def _train(test: SmokeTest, memory_format: str) -> None:
    """Trains a new network for a few steps, with the settings of the training."""
    config, outputs = test.config, test.outputs
    prepare_process()
    torch.manual_seed(0)
    network = build_network(test.timm_arch, outputs, *config.size_px, dropout=config.dropout)
    network = pool_by_stripes(network, config.stripes)
    initialise_head(network, [0.3] * outputs)
    frozen = FrozenStages(network, config.freeze if test.is_pretrained else 0)
    network.to(torch_device())
    optimizer = optimizer_for(network, config, is_pretrained=test.is_pretrained)
    images = torch.randn(test.batch, 3, *config.size_px, device=torch_device())
    labels = (torch.arange(test.batch * outputs, device=torch_device()) % 2).float().view(test.batch, outputs)
    copy.deepcopy(network)  # `--ema` needs that
    expected = None
    if memory_format == CHANNELS_LAST and precision_of(config) == "32-true":
        expected = _gradient(network, frozen, config, images, labels)
    if memory_format == CHANNELS_LAST and torch_device() == "cpu":
        _refuse_overflow(network)
    network.to(memory_format=FORMATS[memory_format])
    images = images.contiguous(memory_format=FORMATS[memory_format])
    for step in range(_STEPS):
        found = _gradient(network, frozen, config, images, labels)
        if step == 0 and expected is not None:
            _check_same_gradient(found, expected)
        optimizer.step()
        optimizer.zero_grad()
        _use_heap()
    _check_evaluation(network, config, images, labels, is_head_started=config.head_start and test.is_pretrained)


def _refuse_overflow(network: nn.Module) -> None:
    """Refuses what is known to write past a buffer, as that does not crash each time."""
    for name, module in network.named_modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and max(module.stride) > 1
            and module.in_channels < _FEWEST_CHANNELS
        ):
            raise NetworkError(
                f"oneDNN's gradient of a strided 1x1 convolution of {module.in_channels} channels ({name}) writes past "
                "its buffer",
                code="onednn_fault",
            )


def _gradient(
    network: nn.Module, frozen: FrozenStages, config: TrainConfig, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The gradient of each weight after one step's forward and backward, checked."""
    network.train()
    frozen.set_eval()
    network.zero_grad()
    torch.manual_seed(1)
    with _precision(config):
        logits = _checked(network(images), labels)
    nn.functional.binary_cross_entropy_with_logits(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    gradient = {name: p.grad.detach().clone() for name, p in network.named_parameters() if p.grad is not None}
    if not all(bool(torch.isfinite(value).all()) for value in gradient.values()):
        raise NetworkError("the gradient of a training step is not a number", code="gradient_not_finite")
    if head_of(network).weight.grad is None:
        raise NetworkError(
            "the logits do not depend on the last linear layer: it has no gradient", code="head_without_gradient"
        )
    return gradient


def _checked(logits: Any, labels: Tensor) -> Tensor:
    if not isinstance(logits, Tensor) or logits.shape != labels.shape:
        given = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise NetworkError(f"it returns {given} instead of logits of shape {tuple(labels.shape)}", code="wrong_output")
    if not bool(torch.isfinite(logits).all()):
        raise NetworkError("its logits are not numbers", code="output_not_finite")
    return logits


def _check_same_gradient(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if found.keys() != expected.keys():
        raise NetworkError("channels_last gives other weights a gradient", code="channels_last_differs")
    difference = sum(float((found[name] - value).double().square().sum()) for name, value in expected.items())
    norm = sum(float(value.double().square().sum()) for value in expected.values())
    share = (difference / norm) ** 0.5 if norm else difference
    if not share <= _MOST_DIFFERENCE:
        raise NetworkError(
            f"the gradient in channels_last differs by {share:.2g} of its norm", code="channels_last_differs"
        )


def _check_evaluation(
    network: nn.Module, config: TrainConfig, images: Tensor, labels: Tensor, *, is_head_started: bool
) -> None:
    network.eval()
    with torch.inference_mode():
        with _precision(config):
            _checked(network(images), labels)
        if not is_head_started:
            return
        features = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
    width = head_of(network).in_features
    if features.ndim != 2 or features.shape[1] != width:
        raise NetworkError(
            f"--head-start does not support this backbone: its features are {tuple(features.shape)[1:]}, "
            f"its head takes {width}",
            code="head_start_unsupported",
            hint="leave out --head-start",
        )


@contextlib.contextmanager
def _precision(config: TrainConfig) -> Iterator[None]:
    precision = precision_of(config)
    if precision == "32-true":
        yield
        return
    with torch.autocast(torch_device(), torch.bfloat16 if precision == "bf16-mixed" else torch.float16):
        yield


def _use_heap() -> None:
    blocks = [bytearray(size) for size in _BLOCK_BYTES for _ in range(8)]
    del blocks[::2]
    del blocks
