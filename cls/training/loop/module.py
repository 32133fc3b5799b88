"""The LightningModule: training step, validation, optimizer and schedule."""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from cls.dataset.batches import Batch
from cls.errors import TrainingError
from cls.files import write_bytes_atomic, write_text_atomic
from cls.metrics.multilabel import measure, probabilities_of
from cls.training.config import TrainConfig
from cls.training.data import InitialNetwork
from cls.training.loop.distributed import all_gather
from cls.training.loop.optimizer import FrozenStages, JointLoss, optimizer_for, schedule_for, without_auxiliary
from cls.training.network.build import head_names, memory_format_of
from cls.training.runs.metrics import Epoch
from cls.wording import mean_over, score

_log = logging.getLogger("cls.training")

FOLDER = "bad_batch"
_NAMED = 3


class NotANumberError(TrainingError):
    """The loss became NaN or infinite; every process raises it at the same step."""


@dataclass(frozen=True)
class BadBatchWriter:
    """Saves batches whose loss is not a number.

    Attributes:
        train: file names of the training samples.
        valid: of the validation samples.
    """

    folder: Path
    train: Sequence[str]
    valid: Sequence[str]

    def save(self, batch: Batch, logits: Tensor, *, name: str, is_training: bool = True) -> str:
        """Writes `bad_batch/<name>.npz` (images, labels, indices, pictures, logits) and the pictures' names as text.

        Args:
            batch: the network's input.
            logits: its output, (batch, labels).
            name: e.g. `epoch_3_batch_7`.
            is_training: whether it is of training or validation.

        Returns:
            The file and the pictures, for the error message.

        Raises:
            FileError: it cannot be written.
        """
        names = self.train if is_training else self.valid
        pictures = [names[index] for index in batch.indices.tolist()]
        content = io.BytesIO()
        np.savez_compressed(
            content,
            images=batch.images.cpu().numpy(),
            labels=batch.labels.cpu().numpy(),
            indices=batch.indices.cpu().numpy(),
            pictures=np.array(pictures),
            logits=logits.detach().float().cpu().numpy(),
        )
        file = self.folder / FOLDER / f"{name}.npz"
        write_bytes_atomic(file, content.getvalue())
        write_text_atomic(file.with_suffix(".txt"), "".join(f"{picture}\n" for picture in pictures))
        unique = list(dict.fromkeys(pictures))
        more = f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else ""
        return f"the batch is saved in {file} (pictures {', '.join(unique[:_NAMED])}{more})"


class ClassifierModule(lightning.LightningModule):
    """Trains a network on batches of `cls.dataset.batches`.

    Args:
        start: the network with its initial weights.
        loss: of logits and labels.
        config: learning rates, decay, schedule.
        auxiliary_loss: of the auxiliary labels, which follow the group's own.
        bad_batches: saves batches whose loss is not a number.

    Attributes:
        history: one entry per epoch.
    """

    def __init__(
        self,
        start: InitialNetwork,
        loss: nn.Module,
        config: TrainConfig,
        *,
        auxiliary_loss: nn.Module | None = None,
        bad_batches: BadBatchWriter | None = None,
    ) -> None:
        super().__init__()
        self.network = start.module
        self._memory_format = memory_format_of(self.network)
        self._bad_batches = bad_batches
        self._is_pretrained = start.source.is_pretrained
        self._frozen = FrozenStages(self.network, config.freeze if self._is_pretrained else 0)
        self.history: list[Epoch] = []
        self._own_loss = loss
        self._loss = loss if auxiliary_loss is None else JointLoss(loss, auxiliary_loss, len(start.spec.labels))
        self._has_auxiliary = auxiliary_loss is not None
        self._config = config
        self._label_names = start.spec.labels
        preprocessing = start.spec.preprocessing
        self._mean = torch.tensor(preprocessing.mean_rgb).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocessing.std_rgb).view(1, 3, 1, 1)
        self._train_losses: list[float] = []
        self._valid: list[tuple[Tensor, Tensor, Tensor]] = []
        self._over = ""
        self._epoch_started_s = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Images of a `Batch` -> logits (batch, labels)."""
        normal = normalised(images, self._mean, self._std).contiguous(memory_format=self._memory_format)
        logits: Tensor = self.network(normal)
        return logits

    def on_train_epoch_start(self) -> None:
        """Seeds dropout by epoch, so that a resumed run gives the same result; starts the clock."""
        torch.manual_seed(self._config.seed * 100_003 + self.current_epoch + 7_919 * self.global_rank)
        self._epoch_started_s = time.monotonic()
        self._train_losses.clear()
        self._frozen.set_eval()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            NotANumberError: the loss is not a number; the batch is saved.
        """
        logits = self(batch.images).float()
        loss: Tensor = self._loss(logits, batch.labels)
        value = float(loss.detach())
        self._stop_if_bad(batch, logits, None if math.isfinite(value) else f"the loss is {value}", batch_index)
        self._train_losses.append(value)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Collects logits and labels.

        Raises:
            NotANumberError: the logits are not numbers; the batch is saved.
        """
        logits = self(batch.images).float()[:, : len(self._label_names)]
        is_finite = bool(torch.isfinite(logits).all())
        self._stop_if_bad(batch, logits, None if is_finite else "the logits in validation are not numbers", batch_index)
        self._valid.append((logits.cpu(), batch.labels.cpu(), batch.indices.cpu()))

    def _stop_if_bad(self, batch: Batch, logits: Tensor, what: str | None, batch_index: int) -> None:
        """Stops all processes if one of them has something that is not a number; each saves its bad batch."""
        is_fine, world = what is None, self.trainer.world_size
        if is_fine if world == 1 else self.trainer.strategy.reduce_boolean_decision(is_fine, all=True):
            return
        problem = "" if what is None else self._saved(batch, logits, what, batch_index)
        raise NotANumberError(
            "; ".join(text for text in all_gather(problem, world) if text),
            code="not_a_number",
            hint="train with a smaller --lr, e.g. a third of it, or with a smaller --clip",
        )

    def _saved(self, batch: Batch, logits: Tensor, what: str, batch_index: int) -> str:
        """What is wrong with a batch, and where it is saved."""
        is_training = bool(self.trainer.training)
        what = f"{what} in epoch {self.current_epoch}, batch {batch_index}"
        if self._bad_batches is None:
            return what
        process = f"_process_{self.global_rank}" if self.trainer.world_size > 1 else ""
        name = f"{'train' if is_training else 'valid'}_epoch_{self.current_epoch}_batch_{batch_index}{process}"
        return f"{what}; {self._bad_batches.save(batch, logits, name=name, is_training=is_training)}"

    def on_validation_epoch_end(self) -> None:
        """Measures the whole validation subset, in every process."""
        logits, labels, indices = (torch.cat(parts) for parts in zip(*self._valid, strict=True))
        self._valid.clear()
        parts = all_gather((logits.numpy(), labels.numpy(), indices.numpy()), self.trainer.world_size)
        order = np.argsort(np.concatenate([part[2] for part in parts]), kind="stable")
        all_logits = np.concatenate([part[0] for part in parts])[order]
        all_labels = np.concatenate([part[1] for part in parts])[order]
        loss = self._own_loss(
            torch.from_numpy(all_logits).to(self.device), torch.from_numpy(all_labels).to(self.device)
        )
        values = {"valid_loss": float(loss)}
        half = [0.5] * len(self._label_names)
        found = measure(
            probabilities_of(all_logits.astype(np.float64)), all_labels.astype(np.float64), self._label_names, half
        )
        macro = found.macro
        known, of = sum(label.ap is not None for label in found.labels.values()), len(self._label_names)
        self._over = "" if known == of else f" ({mean_over(known, of)})"
        values |= {
            name: value
            for name, key in (("valid_map", "ap"), ("valid_f1", "f1"), ("valid_auroc", "auroc"))
            if (value := getattr(macro, key)) is not None
        }
        self.log_dict(values)

    def on_train_epoch_end(self) -> None:
        """Adds the epoch to the history, and logs it."""
        train_loss = float(np.mean(all_gather(float(np.mean(self._train_losses)), self.trainer.world_size)))
        lr = float(self.optimizers().param_groups[-1]["lr"])  # type: ignore[union-attr]
        self.log_dict({"train_loss": train_loss, "lr": lr})
        measured = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        epoch = Epoch(
            epoch=self.current_epoch,
            seconds=time.monotonic() - self._epoch_started_s,
            train_loss=train_loss,
            lr=lr,
            **{key: value for key, value in measured.items() if key.startswith("valid_")},
        )
        self.history.append(epoch)
        self._log_epoch()

    def _log_epoch(self) -> None:
        epoch = self.history[-1]
        validation = "".join(
            f", {text} {form(value)}"
            for key, text, form in (
                ("valid_loss", "validation loss", "{:.3f}".format),
                ("valid_map", f"mAP{self._over}", score),
                ("valid_f1", f"F1 at 0.5{self._over}", score),
            )
            if (value := getattr(epoch, key)) is not None
        )
        _log.info(
            "epoch %d of %d: loss %.4f%s; %.1f s",
            len(self.history), self._config.epochs, epoch.train_loss, validation, epoch.seconds,
        )  # fmt: skip

    def state_without_auxiliary(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state_dict of this module without the auxiliary outputs."""
        if not self._has_auxiliary:
            return state
        for name in head_names(self.network):
            state = without_auxiliary(state, f"network.{name}", len(self._label_names))
        return state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the history."""
        checkpoint["history"] = [epoch.to_json_values() for epoch in self.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the history."""
        self.history = [Epoch.model_validate(epoch) for epoch in checkpoint["history"]]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a linear warm-up and a cosine schedule, by step."""
        optimizer = optimizer_for(self.network, self._config, is_pretrained=self._is_pretrained)
        schedule = schedule_for(optimizer, self._config, max(int(self.trainer.estimated_stepping_batches), 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (batch, height, width, 3) -> float32 (batch, 3, height, width) as `Preprocessing.normalise` gives it.

    Float images are normalised already. The result is channels-last in memory.
    """
    if images.dtype != torch.uint8:
        return images.contiguous(memory_format=torch.channels_last)
    # By rows: arithmetic over the channels alone takes several times as long.
    batch, height_px, width_px, channels = images.shape
    rows = images.reshape(batch, height_px, width_px * channels).float().div_(255)
    rows.sub_(mean.to(rows.device).flatten().repeat(width_px)).div_(std.to(rows.device).flatten().repeat(width_px))
    return rows.view(batch, height_px, width_px, channels).permute(0, 3, 1, 2)
