"""What a second demonstration takes as done."""

from __future__ import annotations

from pathlib import Path

from cls.demo.steps import Journal, Step


def fetch(port: int, *more: str) -> tuple[str, ...]:
    return ("scp", "-P", str(port), *more, f"http://127.0.0.1:{port + 1}/v2/models/hat", "best.pt")


def test_a_step_is_done_whatever_the_ports_of_the_services(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json", {"group": "hat"})
    done = Step("scp", "Fetch", fetch(4000), products=(tmp_path,))
    journal.note(done, "inputs", 1.0)
    again = Journal(tmp_path / "journal.json", {"group": "hat"})
    assert again.is_done(done, "inputs")
    assert again.is_done(Step("scp", "Fetch", fetch(39000), products=(tmp_path,)), "inputs")
    assert not again.is_done(Step("scp", "Fetch", fetch(4000, "-q"), products=(tmp_path,)), "inputs")
    assert not again.is_done(done, "others")
    assert not again.is_done(Step("scp", "Fetch", fetch(4000), products=(tmp_path / "gone",)), "inputs")
