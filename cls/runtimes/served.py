"""A network behind an inference server: Triton, or the model storage's own engine (Open Inference Protocol v2)."""

from __future__ import annotations

from urllib.parse import urlsplit

from cls.runtimes.served_address import ServedAddress
from cls.runtimes.served_runtime import ServedRuntime
from cls.settings import Settings


def open_served(address: ServedAddress, settings: Settings) -> ServedRuntime:
    """The network behind an address, over HTTP or gRPC.

    Args:
        address: where it is.
        settings: the model storage's token is sent to its own host and to that of `inference_url`, and to no other.

    Raises:
        PredictionError: the server cannot be reached, or does not serve the model.
    """
    known = {urlsplit(one).hostname for one in (settings.model_storage_url, settings.inference_url) if one}
    token = settings.model_storage_token if urlsplit(address.url).hostname in known else ""
    if address.is_grpc:
        from cls.runtimes.served_grpc import GrpcRuntime

        return GrpcRuntime(address, token)
    from cls.runtimes.served_http import HttpRuntime

    return HttpRuntime(address, token)
