"""The settings of the model storage service. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cls.errors import UsageFault
from cls.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """What `cls storage serve` was asked for. Checked when made: all problems are listed at once.

    Attributes:
        token: asked of every client; empty for none.
    """

    root: Path = option(Path("storage"), "", "where everything is kept", metavar="DIR")
    host: str = option(
        "127.0.0.1",
        "",
        "address to listen on; any but loopback needs CLS_MODEL_STORAGE_TOKEN",
        metavar="HOST",
    )
    port: int = option(8300, "", "port of the storage's HTTP interface, 0 for any", ge=0, le=65535)
    ssh_port: int = option(4000, "", "port of SFTP and SCP, 0 for any", ge=0, le=65535)
    infer_port: int = option(8100, "", "port of the embedded engine, 0 for any", ge=0, le=65535)
    infer_grpc_port: int | None = option(
        None,
        "",
        "port of the embedded engine over gRPC, 0 for any",
        ge=0,
        le=65535,
        unset="the one after --infer-port, which is 8101, or where that is taken any free one",
    )
    triton_url: str = option(
        "",
        "",
        "address of a Triton Inference Server (explicit model control, same model repository) to use instead of the"
        " embedded engine",
        flag="--triton",
        metavar="URL",
        pattern="https?://.*",
        values="an address such as http://127.0.0.1:8000",
    )
    gpu: str = option(
        "",
        "",
        "compute capability of Triton's GPU, such as 8.9: TensorRT plans for another one are refused",
        metavar="CAPABILITY",
        pattern=r"\d+\.\d+",
        values="a compute capability such as 8.9",
        unset="what nvidia-smi says, where Triton is on this machine",
    )
    tensorrt: str = option(
        "",
        "",
        "Triton's version of TensorRT, such as 10.13.3: plans of another one are refused",
        metavar="VERSION",
        pattern=r"\d+(\.\d+)+",
        values="a version such as 10.13.3",
    )
    max_upload_mb: int = option(2048, "", "how big an uploaded package may be, in megabytes", ge=1, metavar="MB")
    token: str = ""

    def __post_init__(self) -> None:
        faults = []
        if (self.gpu or self.tensorrt) and not self.triton_url:
            faults.append(
                UsageFault("--gpu and --tensorrt say what Triton has: give --triton, too", code="missing_option")
            )
        check_options(self, "cls storage serve", faults)
