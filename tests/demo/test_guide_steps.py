"""What a second demonstration takes as done."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cls.demo.guide_steps import DemoJournal, GuideStep, service
from cls.errors import ClsError


def fetch(port: int, *more: str) -> tuple[str, ...]:
    return ("scp", "-P", str(port), *more, f"http://127.0.0.1:{port + 1}/v2/models/hat", "best.pt")


def test_a_step_is_done_whatever_the_ports_of_the_services(tmp_path: Path) -> None:
    journal = DemoJournal(tmp_path / "journal.json", {"group": "hat"})
    done = GuideStep("scp", "Fetch", fetch(4000), products=(tmp_path,))
    journal.note(done, "inputs", 1.0)
    again = DemoJournal(tmp_path / "journal.json", {"group": "hat"})
    assert again.is_done(done, "inputs")
    assert again.is_done(GuideStep("scp", "Fetch", fetch(39000), products=(tmp_path,)), "inputs")
    assert not again.is_done(GuideStep("scp", "Fetch", fetch(4000, "-q"), products=(tmp_path,)), "inputs")
    assert not again.is_done(done, "others")
    assert not again.is_done(GuideStep("scp", "Fetch", fetch(4000), products=(tmp_path / "gone",)), "inputs")


def test_a_service_is_not_looked_for_where_a_stranger_listens(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with (
            pytest.raises(ClsError) as caught,
            service("collector", ["collector", "serve"], [port], tmp_path / "log", {}),
        ):
            pytest.fail("the block must not start")
        assert caught.value.code == "cls.port_in_use"
        assert str(port) in caught.value.what
    assert not (tmp_path / "log").exists()
