"""docs/reference/http.md: the model storage's HTTP interface, from its OpenAPI document, its routes and its errors."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from starlette.routing import Route

from cls.model_storage.app import OPEN_PATHS, AppOptions, build_app
from cls.model_storage.inference.engine import ModelState
from cls.model_storage.inference.server import _grpc_calls, build_inference_app
from cls.model_storage.service import _HEALTH_PATHS
from cls.settings import REPOSITORY
from tests.reference.error_codes import read_error_codes

_NOTHING: Any = None  # pages and routes are described without a storage behind them
_INDEX = "[{" + ", ".join(f'"{one.name}": text' for one in fields(ModelState)) + "}, …]"
_INTRODUCTION = """\
# HTTP interface

What `cls storage serve` answers: the model storage on port 8300, and inference on port 8100 where no Triton is
configured. `http://127.0.0.1:8300/docs` shows the first one and tries it out, `/openapi.json` describes it for
programs. Examples: [Publish and serve a model](../serve.md). This page is generated from the code:
`python -m tests.reference` writes it.

## Access

| the service is started | who may ask |
|---|---|
| on loopback, without a token | everybody on this machine; another host name or website gets 403 |
| with `CLS_MODEL_STORAGE_TOKEN` | who sends `Authorization: bearer TOKEN`; others get 401 |
| on another address, without a token | it does not start |
"""
_FAULTS = """\

## Errors of the model storage

A refusal is `{"detail": "…", "code": "storage.version_taken"}`, and nothing was changed. `detail` is for people; `code`
stays when words change. `faults` has the codes of single faults of a package. What to do for each code:
[Error codes](errors.md#storage). A request that lacks a parameter is answered 422 without a code, an unknown path 404.

| status | code | what happened |
|---|---|---|
"""
_INFERENCE = """\

## Inference

Port 8100 speaks the [Open Inference Protocol](https://github.com/kserve/open-inference-protocol) v2 as Triton does,
with tensors as JSON or binary (the header `Inference-Header-Content-Length`), requests plain or packed with gzip or
deflate. `model` is the name of the model's folder, such as `hair_color`. Errors are `{"error": "…"}`: 400 for what
cannot be answered, 404 for an unknown path, 413 for more than 1 GiB.

| call | what it answers |
|---|---|
"""
_REFUSALS = ("RefusedError", "EngineError")
_MEANINGS: Mapping[str, str] = {
    "/v2": "name, version and extensions of the server",
    "/v2/health/live": "200 while the server runs",
    "/v2/health/ready": "200 when it answers",
    "/v2/models/stats": "counts and times of all models",
    "/v2/repository/index": 'every model, its version and its state; the body `{"ready": true}`: those that answer',
    "/v2/repository/models/{model}/load": "loads the model's selected version",
    "/v2/repository/models/{model}/unload": "stops serving the model",
    "": "the model's inputs and outputs, with types and shapes",
    "/ready": "200 when the model answers, else 400",
    "/config": "the model's configuration, `config.pbtxt` as JSON",
    "/stats": "counts and times of the model",
    "/infer": "the outputs for the inputs of the body",
}


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *_open(), *_calls(), _FAULTS + "\n".join(_faults()), _inference()]) + "\n"


def _open() -> Iterator[str]:
    paths = ", ".join(f"`{path}`" for path in (*OPEN_PATHS, *_HEALTH_PATHS))
    yield f"Open to everybody: {paths}.\n"


def _calls() -> Iterator[str]:
    document = build_app(_NOTHING, AppOptions(0, ""), _NOTHING).openapi()
    schemas = document["components"]["schemas"]
    found = document["paths"].items()
    calls = [(method.upper(), path, call) for path, methods in found for method, call in methods.items()]
    yield "## Calls of the model storage\n"
    yield "`model` in a path is the name of a model's folder, or of its group.\n"
    yield "| call | what it does |\n|---|---|"
    for method, path, call in calls:
        yield f"| [`{method} {path}`](#{_anchor(method, path)}) | {call['summary'][:1].lower()}{call['summary'][1:]} |"
    for method, path, call in calls:
        yield f"\n### `{method} {path}`\n\n{call['summary'].rstrip('?.')}.\n"
        yield from _parameters(call)
        answer = call["responses"]["200"]["content"]["application/json"]["schema"]
        shape = _INDEX if path == "/index/" else _json(answer, schemas)
        yield "Answer: [meta.json](meta-json.md)" if path.startswith("/get_meta/") else f"Answer: `{shape}`"


def _anchor(method: str, path: str) -> str:
    kept = [sign for sign in f"{method} {path}".lower() if sign.isalnum() or sign in " _-"]
    return "".join(kept).replace(" ", "-")


def _parameters(call: Mapping[str, Any]) -> Iterator[str]:
    form = call.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
    required = form.get("required", ())
    asked = [one for one in call.get("parameters", ()) if one["in"] != "path"]
    rows = [(one["name"], one["in"], one["required"], one.get("description", "")) for one in asked]
    described = [(name, one.get("description", "")) for name, one in form.get("properties", {}).items()]
    rows += [(name, "form", name in required, meaning) for name, meaning in described]
    if not rows:
        return
    yield "| parameter | where | required | meaning |\n|---|---|---|---|"
    for name, where, is_required, meaning in rows:
        yield f"| `{name}` | {where} | {'yes' if is_required else 'no'} | {meaning} |"
    yield ""


def _json(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """What an answer looks like, as JSON with types for values."""
    if "$ref" in schema:
        return _json(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return " or ".join(_json(one, schemas) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"[{_json(schema['items'], schemas)}, …]"
    if "properties" in schema:
        return "{" + ", ".join(f'"{name}": {_json(one, schemas)}' for name, one in schema["properties"].items()) + "}"
    return {"string": "text", "object": "{…}", "null": "null", "integer": "number"}.get(
        schema.get("type", "object"), "…"
    )


def _faults() -> Iterator[str]:
    """Status and code of every refusal that the model storage's code names."""
    statuses: dict[str, set[int]] = {}
    for file in sorted((REPOSITORY / "cls" / "model_storage").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REFUSALS:
                status = node.args[0] if node.args else None
                code = next((one.value for one in node.keywords if one.arg == "code"), None)
                if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                    statuses.setdefault(f"storage.{code.value}", set()).add(int(str(status.value)))
    _, codes = read_error_codes()
    for code, found in sorted(statuses.items(), key=lambda item: (min(item[1]), item[0])):
        whats = "<br>".join(sorted(codes[code].whats)).replace("|", "\\|")
        yield f"| {', '.join(map(str, sorted(found)))} | `{code}` | {whats} |"


def _inference() -> str:
    app = build_inference_app(_NOTHING, _NOTHING, _NOTHING)
    rows = []
    for route in app.routes:
        assert isinstance(route, Route)
        method = "POST" if "POST" in (route.methods or ()) else "GET"
        rows.append(f"| `{method} {route.path}` | {_meaning(route.path)} |")
    names = ", ".join(f"`{name}`" for name in _grpc_calls(_NOTHING, _NOTHING))
    grpc = f"\n\nPort 8101 answers the same over gRPC: {names}. The token goes into the metadata `authorization`."
    return _INFERENCE + "\n".join(rows) + _wrapped(grpc)


def _meaning(path: str) -> str:
    if path in _MEANINGS:
        return _MEANINGS[path]
    base, _, number = path.removeprefix("/v2/models/{model}").partition("/versions/{number}")
    return _MEANINGS[base or number] + (" (of one version)" if "{number}" in path else "")


def _wrapped(text: str) -> str:
    head = text[: len(text) - len(text.lstrip("\n"))]
    return head + "\n".join(textwrap.wrap(text.strip(), 120, break_on_hyphens=False, break_long_words=False))
