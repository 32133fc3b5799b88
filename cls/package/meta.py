"""meta.json: everything needed to use a model correctly, checked against a published JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cls.errors import PackageError
from cls.files import write_json_atomic
from cls.metrics.scores import Metrics, metrics_of_package
from cls.package.processing_steps import StepsMeta, steps_fault, steps_of
from cls.records import fault_text
from cls.wording import counted

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

    from cls.people.preprocess import Preprocessing

META_FILE_NAME = "meta.json"
_HINT = "make the package again with `cls export`"
SCHEMA_VERSION = 3
SCHEMA_FILE = Path(__file__).with_name("meta.schema.json")
INPUT_NAME = "images"
OUTPUT_NAME = "logits"
END_TO_END_OUTPUT_NAME = "probabilities"
SEMANTIC_VERSION = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)
_SHA256 = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=_SHA256)]
Probability = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[int, Field(ge=0, le=255)]
Deviation = Annotated[float, Field(gt=0)]
MAX_INPUT_PX = 16384


class _Meta(BaseModel):
    """A part of meta.json; unknown keys of later versions are kept as they came."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class PreprocessingMeta(_Meta):
    """From a photo's pixels and a person's outline to the network's input."""

    version: Literal[1, 2] = Field(
        default=1,
        description="2: `steps.rules` says each step to the pixel. 1, and packages that name none: the frame and the"
        " letterbox are calculated in floating point (halves of the size rounded to even numbers), and the mask also"
        " holds the pixels that the outline touches, as OpenCV's fillPoly draws it",
    )
    resize: Literal["letterbox", "letterbox-2"] = Field(
        description="proportions are kept, borders are filled, the picture is centred, an odd pixel of border at the"
        " right or bottom. letterbox-2 in version 2, a name that readers of version 1 alone refuse"
    )
    interpolation: str = Field(description="how pixels are resampled; see the step letterbox")
    colour_order: Literal["RGB"] = Field(description="order of the channels")
    layout: Literal["NCHW"] = Field(description="order of the input's axes: batch, channels, rows, columns")
    scale: Literal["1/255"] = Field(description="factor from uint8 levels, before mean and standard deviation")
    background: str = Field(description="what becomes of the pixels around the person, and when")
    height_px: int = Field(ge=1, le=MAX_INPUT_PX, description="rows of the input, borders included")
    width_px: int = Field(ge=1, le=MAX_INPUT_PX, description="columns of the input, borders included")
    mean_rgb: tuple[float, float, float] = Field(description="subtracted after scaling")
    std_rgb: tuple[Deviation, Deviation, Deviation] = Field(description="divided by after subtracting the mean")
    fill_rgb: tuple[Level, Level, Level] = Field(description="colour around the person and in the borders")
    margin_rel: float = Field(
        ge=0,
        le=100,
        description="surroundings kept on each side of a person, fraction of the longer side of the box around the"
        " outlines' points",
    )
    is_background_kept: bool = Field(description="true: the photo's own background stays around the person")


class PersonMeta(_Meta):
    """How a person is cut out of a photo before the preprocessing."""

    source: str = Field(description="where a person's outline comes from")
    frame: str = Field(description="the rectangle that is cut out")
    background: str = Field(description="what becomes of the pixels around the person")
    segmentation_models: tuple[str, ...] = Field(description="versions of the models that outlined the training people")


class TensorMeta(_Meta):
    """One input or output of the network."""

    name: str = Field(min_length=1, description="as in the model file and in Triton's config.pbtxt")
    datatype: Literal["FP32", "FP16", "UINT8"] = Field(description="name as in the Open Inference Protocol")
    shape: tuple[int, ...] = Field(min_length=1, description="-1 stands for the batch")


PeoplePart = Literal["validation", "training", "photos"]


class LabelParityMeta(_Meta):
    """How closely one format agrees with the trained network on one label, at the batch size where it departs most."""

    f1_change: float | None = Field(default=None, description="of F1")
    ece: float | None = Field(
        default=None, ge=0, le=1, description="expected calibration error of this format's own answers"
    )
    logit_shift: float | None = Field(default=None, description="mean difference of the logits")
    logit_error: float | None = Field(
        default=None, ge=0, description="root mean square difference of the logits, in their standard deviations"
    )


class ParityMeta(_Meta):
    """How closely one format agrees with the trained network, on real validation cut-outs."""

    runtime: str = Field(description="what ran the converted model, with its version")
    samples: int = Field(ge=1, description="how many people were compared")
    part: PeoplePart | None = Field(
        default=None,
        description="who the samples are: of the run's validation part, of its training part where it held nobody out,"
        " or photos that somebody else proved a rebuilt package on",
    )
    batch_sizes: tuple[int, ...] = Field(min_length=1, description="at which everybody was compared")
    max_probability_difference: float = Field(ge=0, description="largest difference of a probability")
    mean_probability_difference: float = Field(ge=0, description="mean over people and labels")
    label_flips: int = Field(
        ge=0,
        description="decisions, one a person and label, that differ at any batch size, however near the threshold",
    )
    label_flips_beyond_limit: int = Field(ge=0, description="those further than `limit` from the threshold")
    limit: float = Field(ge=0, description="how near its threshold a probability may change the decision")
    precision: Literal["fp32", "fp16", "int8"] | None = Field(default=None, description="of the model's numbers")
    p999_probability_difference: float | None = Field(default=None, ge=0, description="99.9th percentile")
    f1_change: float | None = Field(default=None, description="of F1, mean over labels, on the same people")
    ma_change: float | None = Field(default=None, description="of mean accuracy mA, likewise")
    ece: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="expected calibration error of this format's own answers, all decisions together",
    )
    labels: dict[str, LabelParityMeta] = Field(default_factory=dict, description="by label")
    sizes: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="of an end-to-end model: by kind of cut-outs, the root mean square difference of the logits, in"
        " their standard deviations, that it makes whether the model or the caller resizes them",
    )
    kept_in_float: tuple[str, ...] = Field(
        default=(), description="layers of an fp16 or int8 model that stay in float32, because they decide too much"
    )


class DigestsMeta(_Meta):
    """What the model was made from and what the package holds, by SHA-256."""

    dataset: Sha256 = Field(description="of `datasets/<group>.json`")
    split: Sha256 = Field(description="of the run's `split.json`: who is in which part")
    weights: Sha256 = Field(description="of the run's best checkpoint")
    files: dict[str, Sha256] = Field(default_factory=dict, description="the model files beside meta.json")
    segmentation_models: dict[str, tuple[Sha256, ...]] = Field(
        default_factory=dict,
        description="by version: the files that cut people out; none where the masks came from elsewhere",
    )


class PlanMeta(_Meta):
    """Where a TensorRT plan runs: on this version of TensorRT, on GPUs of this compute capability."""

    tensorrt_version: str = Field(min_length=1, description="that built it; no other version runs it")
    gpu: str = Field(min_length=1, description="name of the GPU it was built and timed on")
    compute_capability: str = Field(pattern=r"^\d+\.\d+$", description="GPUs of another one do not run it")


class PackageMeta(_Meta):
    """What one zip holds. A folder with several formats has none: there, `digests.files` names the files."""

    format: str = Field(min_length=1, description="name of the format, e.g. onnx, onnx_fp16, openvino, trt")
    files: dict[str, Sha256] = Field(
        min_length=1,
        description="every file of the zip but meta.json and signature.json; config.pbtxt without its name, version"
        " policy and meta.json",
    )
    plan: PlanMeta | None = Field(default=None, description="for a model.plan")


class TrainingMeta(_Meta):
    """The training run behind the model."""

    run: str = Field(min_length=1, description="name of the run's folder")
    arch: str = Field(min_length=1, description="the network's name in timm")
    arguments: dict[str, Any] = Field(default_factory=dict, description="content of the run's `args.yaml`")


class ModelMeta(_Meta):
    """meta.json: whoever gets only the package can use the model correctly."""

    schema_version: Literal[1, 2, 3] = Field(
        default=1,
        description="2 knows `package`, 3 knows `preprocessing.version`; whatever keeps an earlier one keeps the next",
    )
    group: str = Field(min_length=1, description="as it was typed, in any alphabet")
    labels: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, description="in output order")
    thresholds: dict[str, Probability] = Field(description="a label is chosen at or above this probability")
    activation: Literal["sigmoid"] = Field(
        default="sigmoid", description="makes probabilities of logits; `steps` says who applies it"
    )
    steps: StepsMeta | None = Field(
        default=None,
        description="who does what: the caller before the model, the model, the caller after it. In packages without"
        " it, an input of UINT8 says that resizing, normalisation and activation are inside, any other that none is",
    )
    person: PersonMeta = Field(description="how a person is cut out, in words")
    preprocessing: PreprocessingMeta = Field(description="the numbers of every step before the network")
    inputs: tuple[TensorMeta, ...] = Field(min_length=1, description="of the model")
    outputs: tuple[TensorMeta, ...] = Field(min_length=1, description="of the model; as wide as there are labels")
    metrics: dict[str, Any] = Field(default_factory=dict, description="on the validation part of the split")
    parity: dict[str, ParityMeta] = Field(
        default_factory=dict, description="by format, e.g. onnx, onnx_int8, openvino, trt"
    )
    digests: DigestsMeta = Field(description="what the model was made from")
    package: PackageMeta | None = Field(default=None, description="in a zip: what it holds; since schema version 2")
    training: TrainingMeta = Field(description="the run behind the model")
    code_version: str = Field(description="of the code that trained; with the commit where that ran from a checkout")
    created_at: str = Field(description="ISO 8601, UTC: when the training run ended")
    model_version: Annotated[str, Field(pattern=SEMANTIC_VERSION)] | None = Field(
        default=None, description="set when the model is published"
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ModelMeta:
        if len(set(self.labels)) != len(self.labels):
            raise PackageError("labels repeat", code="meta_labels")
        if set(self.thresholds) != set(self.labels):
            raise PackageError("thresholds are not given for exactly the labels", code="meta_thresholds")
        if self.outputs[0].shape[-1] != len(self.labels):
            raise PackageError(
                f"output '{self.outputs[0].name}' has width {self.outputs[0].shape[-1]} "
                f"for {counted(len(self.labels), 'label')}",
                code="meta_output",
            )
        version, resize = self.preprocessing.version, self.preprocessing.resize
        if (version == 1) != (resize == "letterbox"):
            raise PackageError(
                f"preprocessing.resize '{resize}' is not that of preprocessing version {version}",
                code="meta_preprocessing",
            )
        size = (self.preprocessing.height_px, self.preprocessing.width_px)
        expected = (-1, -1, 3) if self.is_end_to_end else (3, *size)
        if tuple(self.inputs[0].shape[1:]) != expected:
            raise PackageError(
                f"input '{self.inputs[0].name}' has shape {list(self.inputs[0].shape)}, "
                f"and the preprocessing makes {[-1, *expected]}",
                code="meta_input",
            )
        fault = self.steps and steps_fault(
            self.steps,
            is_end_to_end=self.is_end_to_end,
            is_background_kept=self.preprocessing.is_background_kept,
            output=self.outputs[0].name,
        )
        if fault:
            raise PackageError(fault, code="meta_steps")
        return self

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """Thresholds in output order."""
        return tuple(self.thresholds[label] for label in self.labels)

    @property
    def validation(self) -> Metrics | None:
        """What was measured on the validation part; None where nobody was held out, or nothing is recorded.

        Values of another form, as older or other tools write them, count as not measured.
        """
        return metrics_of_package(self.metrics.get("validation"))

    @property
    def is_end_to_end(self) -> bool:
        """Whether resizing, normalisation and the activation are inside the network.

        Then it takes uint8 RGB cut-outs (batch, height, width, 3) of any size, and answers probabilities.
        """
        return self.inputs[0].datatype == "UINT8"

    @property
    def all_steps(self) -> StepsMeta:
        """`steps`; in packages that do not name them, what their input means."""
        return self.steps or steps_of(
            is_end_to_end=self.is_end_to_end,
            is_background_kept=self.preprocessing.is_background_kept,
            version=self.preprocessing.version,
        )

    def preprocessing_object(self) -> Preprocessing:
        """The preprocessing as code that runs (needs NumPy and OpenCV, which the rest of this room does without)."""
        from cls.people.preprocess import Preprocessing

        return Preprocessing.from_dict(self.preprocessing.model_dump())

    def with_model_version(self, version: str) -> ModelMeta:
        """The same, published under a semantic version."""
        return self.changed(model_version=version)

    def changed(self, **values: Any) -> ModelMeta:
        """The same with other values of some fields, checked against the schema.

        Raises:
            PackageError: it does not keep the schema.
        """
        return parse_meta(self.model_copy(update=values).model_dump(mode="json"))

    def to_json(self) -> str:
        """The text of meta.json."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def parse_meta(content: Any, where: object = META_FILE_NAME) -> ModelMeta:
    """Checks the content of a meta.json against the schema and reads it.

    Raises:
        PackageError: it does not keep the schema (names the JSON path of every fault), or contradicts itself.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise PackageError(
            f"is a meta.json of schema version {version}, and this version of CLS knows up to {SCHEMA_VERSION}",
            code="unsupported_version",
            where=where,
            hint="update CLS",
        )
    faults = schema_faults(content)
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise PackageError(f"is not a valid meta.json: {shown}", code="invalid_meta", where=where, hint=_HINT)
    try:
        return ModelMeta.model_validate(content)
    except ValidationError as error:
        details = "; ".join(f"{_json_path(fault['loc'])}: {fault_text(fault)}" for fault in error.errors())
        raise PackageError(
            f"is not a valid meta.json: {details}", code="invalid_meta", where=where, hint=_HINT
        ) from error
    except PackageError as error:  # it contradicts itself
        raise PackageError(
            f"is not a valid meta.json: {error.what}", code=error.case, where=where, hint=_HINT
        ) from error


def parse_meta_text(text: str | bytes, where: object = META_FILE_NAME) -> ModelMeta:
    """Reads the text of a meta.json; see `parse_meta`."""
    return parse_meta(read_document(text, where).content, where)


@dataclass(frozen=True)
class MetaDocument:
    """A meta.json as it came: any JSON object, also what another tool or an older one wrote."""

    content: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it says that it keeps a published schema."""
        return "schema_version" in self.content

    @property
    def group(self) -> str | None:
        """What the model classifies; None where another tool wrote it, which may mean something else by it."""
        return str(self.content["group"]) if self.is_ours and "group" in self.content else None

    @property
    def model_version(self) -> object:
        """Whatever stands there; None where nothing does."""
        return self.content.get("model_version")

    def with_model_version(self, version: str) -> MetaDocument:
        """The same, published under a semantic version."""
        return MetaDocument({**self.content, "model_version": version})

    def text(self) -> str:
        """The text of meta.json."""
        return json.dumps(self.content, ensure_ascii=False, indent=2) + "\n"


def read_document(text: str | bytes, where: object = META_FILE_NAME) -> MetaDocument:
    """The JSON object of a meta.json's text, not checked against the schema.

    Raises:
        PackageError: it is not UTF-8, not JSON, or not an object.
    """
    try:
        content = json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise PackageError(
            f"meta.json is not UTF-8: {error.reason}", code="not_utf8", where=where, hint=_HINT
        ) from error
    except (ValueError, RecursionError) as error:
        raise PackageError(f"meta.json is not JSON: {error}", code="not_json", where=where, hint=_HINT) from error
    if not isinstance(content, dict):
        raise PackageError(
            f"meta.json holds a {type(content).__name__}, expected an object",
            code="invalid_meta",
            where=where,
            hint=_HINT,
        )
    return MetaDocument(content)


def read_meta(path: Path) -> ModelMeta:
    """Reads and checks a meta.json.

    Raises:
        PackageError: it is missing, or does not keep the schema.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(f"cannot be read: {error.strerror}", code="unreadable", where=path, hint=_HINT) from error
    return parse_meta_text(content, path)


def write_meta(path: Path, meta: ModelMeta) -> None:
    """Writes a meta.json, whole or not at all, after checking it against the schema."""
    content = meta.model_dump(mode="json")
    parse_meta(content, path)
    write_json_atomic(path, content)


def schema_faults(content: Any) -> list[str]:
    """Where the content departs from the published schema: `$.labels[2]: ... is not of type 'string'`."""
    errors = sorted(_validator().iter_errors(content), key=lambda error: error.json_path)
    return [f"{error.json_path}: {_shortened(error.message)}" for error in errors]


def published_schema() -> str:
    """The schema as the types above imply it; meta.schema.json is this, and a test keeps the two equal."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ModelMeta.model_json_schema(mode="validation"),
        "title": f"meta.json of a CLS model package, version {SCHEMA_VERSION}",
    }
    return json.dumps(schema, indent=2) + "\n"


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")


def _json_path(location: tuple[int | str, ...]) -> str:
    return "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if re.fullmatch(r"\w+", part) else f"[{part!r}]"
        for part in location
    )


def _shortened(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
