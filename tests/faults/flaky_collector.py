"""A collector that behaves as badly as real services do, by a plan given as JSON; prints its address and serves.

Plan, all optional:
    pictures, picsets   how many there are; picture n belongs to picset n % picsets
    faults              true: the first answer for a picture is, by its number modulo 7: 1 a 500, 2 a 429 with
                        Retry-After, 3 cut in the middle, 4 a closed connection, 5 slow
    html, gone, ill     numbers of pictures that always are: an HTML page, 404, 500
    cut_silently        numbers of pictures that come cut in the middle without a Content-Length, the first time
    clash               true: a second picset holds another picture under the file name of picture 0
    twice               true: every picture is listed twice, and also under a second category
    placeholders        true: short entries are listed
    token_uses          how many requests a token is good for
    latency_s           how long every picture takes
    listing             what POST /v1/meta/pictures answers, as text, in place of a listing
    retry_after         what a 429 asks for; login_status: what a login answers
    busy_calls          how often each call of the interface answers 503 first
    trained_faults      true: what a POST to /v1/picset/trained gets, by its number modulo 5: 1 a 500, 2 a 429,
                        3 taken and the connection closed without an answer, 4 the connection closed before
    trained_latency_s   how long each of them takes, half of it before the picset is kept
    edits               true: whenever a POST to /v1/picset/trained is refused, somebody adds a person to a photo of
                        that picset; whenever one is taken, to a photo of the next one
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PLAN: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
PICTURES = PLAN.get("pictures", 20)
PICSETS = PLAN.get("picsets", 5)
LABELS = ("black hair", "blonde hair", "hair_color trash")
LOCK = threading.Lock()
SEEN: Counter[str] = Counter()
TOKENS: dict[str, int] = {}
OPEN = Counter[str]()
TRAINED: dict[str, Any] = {}


def png(number: int) -> bytes:
    """A small whole PNG, different for every number, big enough to be cut in the middle."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    side = 40
    noise = hashlib.shake_256(str(number).encode()).digest(side * side * 3)
    rows = b"".join(b"\0" + noise[y * side * 3 : (y + 1) * side * 3] for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def guid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def filepath(number: int) -> str:
    return f"0/0/0/{guid(number % PICSETS)}/p/{hashlib.md5(str(number).encode()).hexdigest()}.png"


BY_PATH = {filepath(number): number for number in range(PICTURES)}
CLASH = f"f/f/f/{guid(1)}/p/{filepath(0).rsplit('/', 1)[1]}"


def listing() -> dict[str, Any]:
    data: dict[str, Any] = {label: {"pictures": []} for label in LABELS}
    for number in range(PICTURES):
        entry = {"filepath": filepath(number), "picsetGuid": guid(number % PICSETS), "unknown": number}
        data[LABELS[number % 3]]["pictures"] += [entry, entry] if PLAN.get("twice") else [entry]
        if PLAN.get("twice") and number % 3 == 0:
            data["blonde hair"]["pictures"].append(entry)
    if PLAN.get("clash"):
        data["black hair"]["pictures"].append({"filepath": CLASH, "picsetGuid": guid(1)})
    if PLAN.get("placeholders"):
        data["black hair"]["pictures"] += [{"filepath": ""}, {"filepath": "none"}, {"filepath": None}, {}]
    return {"data": data}


def picset(name: str) -> dict[str, Any] | None:
    if name in TRAINED:
        return TRAINED[name]
    numbers = [number for number in range(PICSETS) if guid(number) == name]
    if not numbers:
        return None
    items = [
        {
            "origin": {"filename": "x", "filepath": filepath(n), "width": 40, "height": 40, "camera": "ünknown"},
            "trained": [],
        }
        for n in range(numbers[0], PICTURES, PICSETS)
    ]
    head = {
        "guid": name,
        "group": [{"group": "hair_color", "id": 7}],
        "category": list(LABELS),
        "extra": {"kept": [1, None]},
    }
    return {"picset": head, "items": items, "server": "flaky"}


def somebody_edits(name: str, further: int) -> None:
    """Adds a person to the first photo of a picset, or of one further on."""
    number = (int(name.split("-")[0], 16) + further) % PICSETS
    content = json.loads(json.dumps(picset(guid(number))))
    with LOCK:
        SEEN["edits"] += 1
        hand = {"gender": "child", "bbox": [0, 0, 0.05, 0.05], "groups": [], "by hand": SEEN["edits"]}
        content["items"][0]["trained"].append(hand)
        TRAINED[guid(number)] = content


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode())

    def count(self, key: str) -> int:
        with LOCK:
            SEEN[key] += 1
            return SEEN[key]

    def is_let_in(self, scheme: str) -> bool:
        given, _, token = self.headers.get("Authorization", "").partition(" ")
        with LOCK:
            left = TOKENS.get(token, 0)
            TOKENS[token] = left - 1
        if given != scheme or left <= 0:
            self.count("refused")
            self.answer_json({"detail": "the token is not good"}, 401)
            return False
        return True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        times = self.count(self.path)
        if times <= PLAN.get("busy_calls", 0):
            return self.answer_json({}, 503)
        if self.path == "/v1/login":
            if PLAN.get("login_status"):
                return self.answer_json({"detail": "no"}, PLAN["login_status"])
            with LOCK:
                token = f"t{len(TOKENS)}-{times}"
                TOKENS[token] = PLAN.get("token_uses", 10**9)
            return self.answer_json({"token": token})
        if not self.is_let_in("token" if self.path in ("/v1/picset/trained", "/v1/picset/checking") else "bearer"):
            return None
        if self.path == "/v1/meta/pictures":
            if "listing" in PLAN:
                return self.answer(200, PLAN["listing"].encode())
            return self.answer_json(listing() if body["groups"] == ["hair_color"] else {"data": {}})
        if self.path == "/v1/meta/picsets":
            with LOCK:
                SEEN["largest batch"] = max(SEEN["largest batch"], len(body["guids"]))
            return self.answer_json({"data": [found for found in map(picset, body["guids"]) if found]})
        if self.path == "/v1/picset/trained":
            return self.trained(body, times)
        return self.answer_json({})

    def trained(self, body: Any, times: int) -> None:
        fault = times % 5 if PLAN.get("trained_faults") else 0
        if PLAN.get("edits"):
            somebody_edits(body["picset"]["guid"], 0 if fault in (1, 2, 4) else 1)
        if fault == 1:
            return self.answer(500, b"oh", "text/plain")
        if fault == 2:
            return self.answer(429, b"", "text/plain", Retry_After=PLAN.get("retry_after", "1"))
        self.close_connection = fault in (3, 4)
        if fault == 4:
            return None
        time.sleep(PLAN.get("trained_latency_s", 0) / 2)
        with LOCK:
            TRAINED[body["picset"]["guid"]] = body
            SEEN["kept"] += 1
        time.sleep(PLAN.get("trained_latency_s", 0) / 2)
        return None if fault == 3 else self.answer_json({})

    def do_GET(self) -> None:
        if self.path == "/stats":
            return self.answer_json(SEEN)
        if not self.is_let_in("bearer"):
            return None
        path = self.path[1:]
        times = self.count(path)
        self.count("pictures")
        with LOCK:
            OPEN["now"] += 1
            SEEN["most at once"] = max(SEEN["most at once"], OPEN["now"])
        try:
            self.picture(path, times)
        finally:
            with LOCK:
                OPEN["now"] -= 1

    def picture(self, path: str, times: int) -> None:
        time.sleep(PLAN.get("latency_s", 0))
        if path == CLASH:
            return self.answer(200, png(10**6), "image/png")
        number = BY_PATH.get(path)
        if number is None or number in PLAN.get("gone", ()):
            return self.answer(404, b"gone", "text/plain")
        if number in PLAN.get("html", ()):
            return self.answer(200, b"<html>Please log in</html>", "text/html")
        if number in PLAN.get("ill", ()) or PLAN.get("all_ill"):
            return self.answer(500, b"ill", "text/plain")
        content = png(number)
        if number in PLAN.get("cut_silently", ()) and times == 1:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        if PLAN.get("faults") and times == 1 and number % 7 in (1, 2, 3, 4, 5):
            return self.fail(number % 7, content)
        return self.answer(200, content, "image/png")

    def fail(self, kind: int, content: bytes) -> None:
        if kind == 1:
            return self.answer(500, b"oh", "text/plain")
        if kind == 2:
            return self.answer(429, b"", "text/plain", Retry_After=PLAN.get("retry_after", "1"))
        if kind == 5:
            time.sleep(0.5)
            return self.answer(200, content, "image/png")
        if kind == 3:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        self.close_connection = True
        return None


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
