"""The whole guide: every stage of the guide in order, each by the script the guide names."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.demo.config import DemoOptions
from cls.demo.guide_steps import (
    HOST,
    DemoJournal,
    GuideStep,
    GuideStepResult,
    Ports,
    choose_ports,
    fingerprint,
    run_step,
    service,
    shown,
)
from cls.errors import ClsError
from cls.files import atomic_path
from cls.package.model_name import model_name_of_group, next_version
from cls.sample import PERSON_MODEL
from cls.settings import REPOSITORY, load_settings
from cls.training.runs.listing import find_run

SAMPLE_PHOTOS = 1200
SAMPLE_SEED = 1

# Chosen by measurement, benchmarks/RESULTS.md: a small input shows a colour, real photographs need more of it.
SAMPLE_TRAINING = ("--arch", "lite0", "--size", "160x112", "--epochs", "6", "--batch", "16")
PHOTO_TRAINING = ("--arch", "lite0", "--size", "256x192", "--epochs", "10", "--batch", "16")
_NEW_PHOTOS = 12
_NEW_SAMPLE_PHOTOS = 120
_SCRIPTS = "cls/classification"


@dataclass(frozen=True)
class DemoConfig:
    """One demonstration.

    Attributes:
        folder: everything it makes goes here.
        source: folder of labelled photos; None for the sample photo set, which is made.
        segmenter: the segmentation model the storage offers as `other/best.pt`.
        limit: how many of the source's photos are served; None for all.
        train_options: options of train.py beside `--cat`.
    """

    folder: Path
    group: str
    source: Path | None
    segmenter: Path
    limit: int | None
    train_options: tuple[str, ...]

    @property
    def photos(self) -> Path:
        """The folder of labelled photos that the collector serves."""
        return self.source if self.source is not None else self.folder / "photos"

    @property
    def bottle(self) -> Path:
        """The demonstration's own data folder."""
        return self.folder / "classification_data"

    @property
    def storage(self) -> Path:
        """The root of the demonstration's model storage."""
        return self.folder / "storage"

    @property
    def person_model(self) -> Path:
        """Where scp puts the segmentation model."""
        return self.folder / "person_models" / "best.pt"

    def signature(self) -> dict[str, str]:
        """What a folder was made from: a demonstration of other photos must not go on in it."""
        return {
            "group": self.group,
            "source": "sample" if self.source is None else self.source.name,
            "limit": str(self.limit),
            "segmenter": self.segmenter.name if self.source is not None else "sample",
        }


def plan_demo(options: DemoOptions) -> DemoConfig:
    """Completes what the user gave with what suits the photos."""
    return DemoConfig(
        folder=options.folder,
        group=options.group or "top_color",
        source=options.source,
        segmenter=options.segmenter or PERSON_MODEL,
        limit=options.limit,
        train_options=SAMPLE_TRAINING if options.source is None else PHOTO_TRAINING,
    )


@dataclass(frozen=True)
class GuideRun:
    """What a finished demonstration leaves for its page and its last lines."""

    plan: DemoConfig
    bottle: Bottle
    run: Path
    version: str
    results: tuple[GuideStepResult, ...]
    predictions: Path
    group_predictions: Path


def run_guide(plan: DemoConfig) -> GuideRun:
    """Runs the whole guide in the plan's folder; finished stages of an earlier demonstration are not redone.

    Raises:
        ClsError: a stage failed; what was finished is kept.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    journal = DemoJournal(plan.folder / "journal.json", plan.signature())
    ports = choose_ports()
    environment = _environment(plan, ports)
    settings = load_settings(environment={k: v for k, v in environment.items() if k.startswith("CLS_")})
    walker = _GuideRunner(plan, Bottle(settings), journal, environment)
    if plan.source is None:
        walker.run(_make_sample(plan.photos, SAMPLE_PHOTOS, SAMPLE_SEED, "Make the sample photo set"))
    _offer_person_model(plan)
    with _services(plan, ports, environment):
        return _run_with_services(walker, ports)


def _run_with_services(walker: _GuideRunner, ports: Ports) -> GuideRun:
    plan, bottle = walker.plan, walker.bottle
    group = ("--group", plan.group)
    dataset = bottle.dataset_file(plan.group)
    walker.run(GuideStep("load", "Load the labelled group from the collector", _script("load_group", *group)))
    walker.run(_fetch_person_model(plan, ports), inputs=fingerprint([plan.segmenter]))
    model_path = _short(plan.person_model)
    walker.run(
        GuideStep(
            "segment",
            "Segment the people",
            _script("segment_builder", "--model-path", model_path),
        )
    )
    train = GuideStep(
        "train",
        "Train the classifier",
        _script("train", "--cat", plan.group, *plan.train_options),
        products=(bottle.models(plan.group),),
    )
    # What is labelled, not the file's bytes: a training adds its split to them.
    walker.run(train, inputs=f"{read_dataset(dataset).sha256} {fingerprint([plan.person_model])}")
    run = find_run(bottle, "newest", plan.group).folder
    package = bottle.inference_model(plan.group)
    archive = package / "model_onnx.zip"
    export = GuideStep(
        "export",
        "Export and check parity",
        _script("export", *group),
        products=(archive, package / "meta.json"),
    )
    walker.run(export, inputs=fingerprint([run / "metrics.json"]))
    version = _publish(walker, ports, archive)
    new_photos = _new_photos(walker)
    served = f"http://{HOST}:{ports.inference}/v2/models/{model_name_of_group(plan.group)}"
    out = plan.folder / "predictions"
    predict = GuideStep(
        "predict",
        "Classify new photos with the served model",
        _script(
            "inference",
            "--source",
            _short(new_photos),
            "--model",
            served,
            "--segmenter",
            model_path,
            "--out",
            _short(out),
        ),
        products=(out / "predictions.jsonl", out / "contact_sheet.html"),
    )
    walker.run(predict, inputs=fingerprint([archive, plan.person_model]))
    by_file = GuideStep(
        "predict-group",
        "Classify the photos of the group with the package",
        _script("inference", *group, "--model", _short(archive)),
        products=(bottle.inference(plan.group),),
    )
    walker.run(by_file, inputs=fingerprint([archive]))
    return GuideRun(plan, bottle, run, version, tuple(walker.results), out, bottle.inference(plan.group))


@dataclass
class _GuideRunner:
    """Runs steps one after the other, and remembers how each went."""

    plan: DemoConfig
    bottle: Bottle
    journal: DemoJournal
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        self.results: list[GuideStepResult] = []

    def run(self, step: GuideStep, *, inputs: str = "") -> GuideStepResult:
        """Runs a step unless the journal says that it is finished with the same inputs."""
        print(f"\n[{len(self.results) + 1}] {step.title}\n  $ {shown(step.command)}", flush=True)
        if self.journal.is_done(step, inputs):
            print("    done before, nothing to do", flush=True)
            result = GuideStepResult(step, self.journal.seconds(step), was_done=True, output="")
        else:
            result = run_step(step, self.environment)
            self.journal.note(step, inputs, result.seconds)
        self.results.append(result)
        return result


def _environment(plan: DemoConfig, ports: Ports) -> dict[str, str]:
    """The environment of every process: the demonstration's own data folder and services, no network."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CLS_")}
    return inherited | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "CLS_DATA_PATH": str(plan.bottle.absolute()),
        "CLS_COLLECTOR_URL": f"http://{HOST}:{ports.collector}",
        "CLS_MODEL_STORAGE_URL": f"http://{HOST}:{ports.storage}",
        "CLS_INFERENCE_URL": f"http://{HOST}:{ports.inference}",
    }


@contextlib.contextmanager
def _services(plan: DemoConfig, ports: Ports, environment: Mapping[str, str]) -> Iterator[None]:
    """Collector and model storage, for the length of a `with` block."""
    limit = () if plan.limit is None else ("--limit", str(plan.limit))
    state = ("--state", str((plan.folder / "collector").absolute()))
    photos = str(plan.photos.absolute())
    collector = ("collector", "serve", photos, "--port", str(ports.collector), *limit, *state)
    storage = (
        *("storage", "serve", "--root", str(plan.storage.absolute()), "--port", str(ports.storage)),
        *("--ssh-port", str(ports.ssh), "--infer-port", str(ports.inference)),
    )
    logs = plan.folder / "logs"
    print(f"\nServices on {HOST}: collector {ports.collector}, model storage {ports.storage}, ", end="")
    print(f"files over SSH {ports.ssh}, inference {ports.inference}", flush=True)
    with (
        service("collector", collector, [ports.collector], logs / "collector.log", environment),
        service(
            "model storage", storage, [ports.storage, ports.ssh, ports.inference], logs / "storage.log", environment
        ),
    ):
        yield


def _script(name: str, *options: str) -> tuple[str, ...]:
    return ("python", f"{_SCRIPTS}/{name}.py", *options)


def _short(path: Path) -> str:
    """The path as seen from the repository root, where it lies below it."""
    path = path.absolute()
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _make_sample(folder: Path, photos: int, seed: int, title: str) -> GuideStep:
    command = ("cls", "sample", "make", _short(folder), "--photos", str(photos), "--seed", str(seed))
    return GuideStep(f"sample-{seed}", title, command, products=(folder / "tags.csv", folder / "images"))


def _offer_person_model(plan: DemoConfig) -> None:
    """Puts the segmentation model where the storage offers it for scp."""
    if not plan.segmenter.is_file():
        raise ClsError(
            "there is no segmentation model",
            code="no_segmentation_model",
            where=plan.segmenter,
            hint="give one with SEGMENTER=FILE",
        )
    offered = plan.storage / "other" / "best.pt"
    if not offered.exists() or offered.read_bytes() != plan.segmenter.read_bytes():
        with atomic_path(offered) as part:
            shutil.copyfile(plan.segmenter, part)


def _fetch_person_model(plan: DemoConfig, ports: Ports) -> GuideStep:
    plan.person_model.parent.mkdir(parents=True, exist_ok=True)
    known_hosts = plan.folder.absolute() / "known_hosts"
    command = (
        *("scp", "-q", "-P", str(ports.ssh), "-o", "StrictHostKeyChecking=accept-new"),
        *("-o", f"UserKnownHostsFile={known_hosts}", f"user@{HOST}:/storage/other/best.pt", _short(plan.person_model)),
    )
    if shutil.which("scp") is None:
        raise ClsError(
            "scp is not installed",
            code="scp_not_installed",
            hint="install OpenSSH's client (Debian: apt-get install openssh-client)",
        )
    return GuideStep(
        "scp", "Fetch the segmentation model from the model storage", command, products=(plan.person_model,)
    )


def _publish(walker: _GuideRunner, ports: Ports, archive: Path) -> str:
    """Publishes the package under the next free version, once."""
    inputs = fingerprint([archive])
    published = walker.plan.folder / "published_version"
    storage_url = f"http://{HOST}:{ports.storage}"
    version = _next_version(storage_url, model_name_of_group(walker.plan.group))
    if published.exists():
        last = published.read_text().strip()
        if walker.journal.is_done(_push(walker.plan, last, published), inputs):
            version = last
    push = _push(walker.plan, version, published)
    result = walker.run(push, inputs=inputs)
    if not result.was_done:
        published.write_text(version + "\n")
    return version


def _push(plan: DemoConfig, version: str, published: Path) -> GuideStep:
    command = ("cls", "push", "--group", plan.group, "--version", version)
    return GuideStep("push", "Publish the package", command, products=(published,))


def _next_version(storage_url: str, model: str) -> str:
    """The version after the latest one in the storage; 0.0.1 for a model it does not have."""
    import httpx

    answer: Any = None
    with contextlib.suppress(httpx.HTTPError, ValueError):
        response = httpx.get(f"{storage_url}/latest_semantic_version/{model}", timeout=10)
        answer = response.json().get("latest_version") if response.is_success else None
    return next_version([answer] if isinstance(answer, str) else [])


def _new_photos(walker: _GuideRunner) -> Path:
    """Photos the model never saw: of people of another seed, or those of the source that were not loaded."""
    plan = walker.plan
    folder = plan.folder / "new_photos"
    if plan.source is None:
        walker.run(_make_sample(folder, _NEW_SAMPLE_PHOTOS, SAMPLE_SEED + 1, "Make photos of new people"))
        return folder / "images"
    loaded = {file.name for file in walker.bottle.pictures.iterdir()}
    pictures = sorted(file for file in plan.source.rglob("*.*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    unseen = [file for file in pictures if file.name not in loaded] or pictures
    step = max(len(unseen) // _NEW_PHOTOS, 1)
    folder.mkdir(exist_ok=True)
    for picture in unseen[::step][:_NEW_PHOTOS]:
        if not (folder / picture.name).exists():
            with atomic_path(folder / picture.name) as part:
                shutil.copyfile(picture, part)
    return folder
