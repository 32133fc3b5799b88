"""What the model storage says of a published version."""

from __future__ import annotations

import httpx

from cls.bottle.model_versions import KnownModel
from cls.errors import PackageError
from cls.package.meta import parse_meta
from cls.package.model_name import model_name_of_group
from cls.settings import Settings

_TIMEOUT_S = 10.0


def published_model(settings: Settings, group: str, version: str) -> KnownModel | str:
    """The model that a group's version is at the configured storage.

    Args:
        settings: where the storage is.
        group: what the model classifies.
        version: semantic version.

    Returns:
        The model; or in words why it is not known. Storages that tell of the served version alone are understood.
    """
    url = settings.model_storage_url
    nowhere = "it was not published from this bottle"
    headers = {"Authorization": f"bearer {settings.model_storage_token}"} if settings.model_storage_token else {}
    try:
        answer = httpx.get(
            f"{url}/get_meta/{model_name_of_group(group)}",
            params={"semantic_version": version},
            headers=headers,
            timeout=_TIMEOUT_S,
            # A proxy meant for the internet has no business between us and a storage on this machine.
            trust_env=False,
        )
        content = answer.json()
    except httpx.HTTPError as error:
        return f"{nowhere}, and the model storage {url} cannot be asked ({error or type(error).__name__})"
    except ValueError:
        return f"{nowhere}, and {url} answers nonsense"
    if answer.status_code == 404:
        return f"{nowhere}, and the model storage {url} does not have it"
    if answer.status_code != httpx.codes.OK:
        return f"{nowhere}, and the model storage {url} answers HTTP status {answer.status_code}"
    try:
        meta = parse_meta(content, url)
    except PackageError as error:
        return f"{nowhere}, and the model storage {url} has a meta.json that {error.what}"
    if meta.model_version != version:
        return f"{nowhere}, and the model storage {url} tells of {meta.model_version or 'an unnamed version'} alone"
    return KnownModel(group, meta.training.run, meta.digests.weights, version)
