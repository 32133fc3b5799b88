"""The LightningModule: one step, one validation pass, the optimizer and its schedule."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from cls.dataset.batches import Batch
from cls.errors import TrainingError
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.losses import MultiLabelLoss
from cls.training.metrics import measure
from cls.training.network import head_of

_log = logging.getLogger("cls.training")

# Peak learning rate of the head for batches of 16; it grows with the root of the batch.
_LR_AT_16 = 1.5e-3


class ClassifierModule(lightning.LightningModule):
    """Trains a network on batches of `cls.dataset.batches`.

    Args:
        network: normalised images -> logits.
        loss: of logits and labels.
        config: learning rates, decay, schedule.
        preprocessing: mean and deviation for batches that come as uint8.
        label_names: in output order.
        is_pretrained: whether the backbone has learnt weights, which are then moved more slowly than the head.

    Attributes:
        history: one entry an epoch: epoch, seconds, train_loss, learning rate, and the validation's measures.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: MultiLabelLoss,
        config: TrainConfig,
        preprocessing: Preprocessing,
        label_names: tuple[str, ...],
        *,
        is_pretrained: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.history: list[dict[str, float]] = []
        self._loss = loss
        self._config = config
        self._label_names = label_names
        self._is_pretrained = is_pretrained
        self._mean = torch.tensor(preprocessing.mean_rgb).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocessing.std_rgb).view(1, 3, 1, 1)
        self._train_losses: list[float] = []
        self._valid: list[tuple[Tensor, Tensor]] = []
        self._epoch_started_s = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Images of a `Batch` -> logits (batch, labels)."""
        logits: Tensor = self.network(normalised(images, self._mean, self._std))
        return logits

    def on_train_epoch_start(self) -> None:
        """Starts the clock; makes dropout a function of seed and epoch, so that a resumed run is the same run."""
        torch.manual_seed(self._config.seed * 100_003 + self.current_epoch)
        self._epoch_started_s = time.monotonic()
        self._train_losses.clear()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: the loss is not a number.
        """
        loss: Tensor = self._loss(self(batch.images), batch.labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {self.current_epoch}, batch {batch_index}",
                hint="train with a smaller --lr, e.g. a third of it",
            )
        self._train_losses.append(value)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:  # noqa: ARG002  Lightning's signature
        """Collects logits and labels."""
        self._valid.append((self(batch.images).float().cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measures the validation part."""
        logits = torch.cat([logits for logits, _ in self._valid])
        labels = torch.cat([labels for _, labels in self._valid])
        self._valid.clear()
        values = {"valid_loss": float(self._loss(logits.to(self.device), labels.to(self.device)))}
        probs = probabilities(logits.numpy())
        half = [0.5] * len(self._label_names)
        macro = measure(probs, labels.numpy().astype(np.float64), self._label_names, half).macro
        values |= {
            name: value
            for name, key in (("valid_map", "ap"), ("valid_f1", "f1"), ("valid_auroc", "auroc"))
            if (value := macro[key]) is not None
        }
        self.log_dict(values)

    def on_train_epoch_end(self) -> None:
        """Writes the epoch's line of history."""
        values = {
            "epoch": self.current_epoch,
            "seconds": time.monotonic() - self._epoch_started_s,
            "train_loss": float(np.mean(self._train_losses)),
            "lr": float(self.optimizers().param_groups[-1]["lr"]),  # type: ignore[union-attr]
        }
        self.log_dict({"train_loss": values["train_loss"], "lr": values["lr"]})
        measured = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        self.history.append({**values, **{key: value for key, value in measured.items() if key.startswith("valid_")}})
        self._log_epoch()

    def _log_epoch(self) -> None:
        epoch = self.history[-1]
        validation = "".join(
            f", {text} {epoch[key]:.3f}"
            for key, text in (("valid_loss", "validation loss"), ("valid_map", "mAP"), ("valid_f1", "F1 at 0.5"))
            if key in epoch
        )
        _log.info(
            "epoch %d of %d: loss %.4f%s; %.1f s",
            len(self.history), self._config.epochs, epoch["train_loss"], validation, epoch["seconds"],
        )  # fmt: skip

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the history, so that a resumed run has all of it."""
        checkpoint["history"] = list(self.history)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the history up to the checkpoint."""
        self.history = list(checkpoint["history"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a linear rise and a cosine fall, step by step."""
        optimizer = AdamW(self._parameter_groups())
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        rise = max(round(steps * self._config.warmup), 1)
        schedule = LambdaLR(optimizer, lambda step: _rise_and_fall(step, rise, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Backbone and head, each with and without decay (none for biases and norms); the head's groups last."""
        peak = self._config.lr or _LR_AT_16 * math.sqrt(self._config.batch / 16)
        backbone_lr = peak * (self._config.backbone_lr if self._is_pretrained else 1.0)
        head = {id(parameter) for parameter in head_of(self.network).parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": peak if is_head else backbone_lr,
                "weight_decay": self._config.decay if is_decayed else 0.0,
            }
            for (is_head, is_decayed), parameters in sorted(groups.items(), key=lambda group: group[0])
        ]


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (batch, height, width, 3) -> float32 (batch, 3, height, width) as `Preprocessing.normalise` gives it.

    Float images are normalised already and come back as they are. The result is channels-last in memory.
    """
    if images.dtype != torch.uint8:
        return images.contiguous(memory_format=torch.channels_last)
    scaled = images.permute(0, 3, 1, 2).float().div_(255)
    return scaled.sub_(mean.to(scaled.device)).div_(std.to(scaled.device))


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The sigmoid of logits, in double precision, without overflow."""
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -60, 60)))


def _rise_and_fall(step: int, rise: int, steps: int) -> float:
    """Share of the peak learning rate at a step: a line up, half a cosine down to a hundredth."""
    if step < rise:
        return (step + 1) / rise
    progress = min((step - rise) / max(steps - rise, 1), 1.0)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
