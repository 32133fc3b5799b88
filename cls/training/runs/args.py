"""args.yaml of a run folder: the settings of the training, and what they led to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
)

from cls.errors import BottleError, UsageError
from cls.files import write_text_atomic
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig

ARGS = "args.yaml"


def _preprocessing(value: Any) -> Any:
    return Preprocessing.from_dict(value) if isinstance(value, dict) else value


class InitialWeights(BaseModel):
    """The weights that a training started from.

    Attributes:
        kind: `run`, `file`, `package`, `cache`, `hub` or `none`.
        origin: a description for people.
        sha256: digest of the file; None for random weights.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    origin: str
    sha256: str | None = None


class RunArgs(BaseModel):
    """The content of args.yaml; keys that this version does not know are kept.

    Attributes:
        settings: the training's options by field of `TrainConfig`, as the version that trained wrote them.
        timm_arch: timm's name of the backbone.
        memory_format: of the network; versions that did not write it trained in channels_last.
        weights: the weights that the training started from.
        preprocessing: what makes the network's input.
        labels: names in output order.
        dataset_sha256: digest of the labelled pictures it was trained on (`GroupDataset.sha256`).
        code_version: of the code that trained.
        started: when the training was first started, in universal time.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    settings: dict[str, JsonValue]
    timm_arch: str
    memory_format: str = Field("channels_last", pattern="^(channels_last|contiguous)$")
    weights: InitialWeights
    preprocessing: Annotated[Preprocessing, BeforeValidator(_preprocessing), PlainSerializer(Preprocessing.to_dict)]
    labels: tuple[str, ...]
    dataset_sha256: str
    code_version: str
    started: str
    _config: TrainConfig = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """Reads the settings, so that what cannot be read is found out at once."""
        self._config = TrainConfig.from_dict(self.settings)

    @property
    def config(self) -> TrainConfig:
        """The settings as this version has them: with its defaults for what the run's version did not have."""
        return self._config

    def to_dict(self) -> dict[str, Any]:
        """Plain values as args.yaml has them."""
        return self.model_dump(mode="json", exclude_unset=True)


def write_args(folder: Path, args: RunArgs) -> None:
    """Writes args.yaml into a run folder."""
    write_text_atomic(folder / ARGS, yaml.safe_dump(args.to_dict(), sort_keys=False, allow_unicode=True))


def read_args(folder: Path, *, hint: str = "train again, or remove the folder") -> RunArgs:
    """Reads the args.yaml of a run folder, of this version or an earlier one.

    Raises:
        BottleError: it is missing or cannot be read; `hint` says what to do.
        PackageError: its preprocessing is one of a later version.
    """
    try:
        return RunArgs.model_validate(yaml.safe_load((folder / ARGS).read_text(encoding="utf-8")))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = f"cannot be read: {error}"
    except ValidationError as error:
        found = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        what = f"is not the args.yaml of a run: {'; '.join(found)}"
    except UsageError as error:
        what = f"holds unknown settings: {error.what}"
    raise BottleError(what, code="run_unreadable", where=folder / ARGS, hint=hint)
