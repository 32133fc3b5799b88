"""Files over SSH with OpenSSH's own scp and sftp, both of scp's protocols."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_storage.services import Service, running_storage
from tests.required_tools import need_program

MODES = pytest.mark.parametrize("mode", [(), ("-O",)], ids=["sftp", "scp"])


@pytest.fixture(scope="module", autouse=True)
def openssh() -> None:
    for program in ("scp", "sftp", "ssh", "ssh-keygen"):
        need_program(program, "openssh-client")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_storage(tmp_path_factory.mktemp("files") / "storage") as running:
        yield running


def ssh_options(service: Service, known_hosts: Path, *, may_ask: bool = False) -> list[str]:
    return [
        *("-P", str(service.ssh_port), "-q", "-F", "none", "-o", f"BatchMode={'no' if may_ask else 'yes'}"),
        *("-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={known_hosts}"),
    ]


def scp(service: Service, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    options = ssh_options(service, folder / "known_hosts", may_ask="SSH_ASKPASS" in environment)
    command = ["scp", *options, *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


@MODES
def test_the_guides_copy(service: Service, tmp_path: Path, mode: tuple[str, ...]) -> None:
    content = os.urandom(3_000_000)
    (service.root / "other" / "best.pt").write_bytes(content)
    done = scp(service, tmp_path, *mode, "user@127.0.0.1:/storage/other/best.pt", str(tmp_path / "best.pt"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "best.pt").read_bytes() == content


@MODES
def test_a_file_is_put_into_other_and_replaced(service: Service, tmp_path: Path, mode: tuple[str, ...]) -> None:
    for content in (os.urandom(2_000_000), b"shorter"):
        (tmp_path / "new.pt").write_bytes(content)
        done = scp(service, tmp_path, *mode, str(tmp_path / "new.pt"), "user@127.0.0.1:/storage/other/new.pt")
        assert (done.returncode, done.stderr) == (0, "")
        assert (service.root / "other" / "new.pt").read_bytes() == content
    assert not list((service.root / "other").glob(".*"))


@MODES
def test_folders_go_both_ways(service: Service, tmp_path: Path, mode: tuple[str, ...]) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "a b.txt").write_text("ä")
    there = f"/storage/other/{'-'.join(('t', *mode))}"
    assert scp(service, tmp_path, *mode, "-r", str(tmp_path / "tree"), f"user@127.0.0.1:{there}").returncode == 0
    assert scp(service, tmp_path, *mode, "-r", f"user@127.0.0.1:{there}", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back" / "deep" / "a b.txt").read_text() == "ä"


@MODES
@pytest.mark.parametrize(
    "path",
    [
        "/storage/ssh/host_key",
        "/storage/./ssh/host_key",
        "/storage/other/../ssh/host_key",
        "/storage/.lock",
        "/storage/../../../etc/passwd",
        "/etc/passwd",
        "/storage/other/link",
        "/storage/other/linked/passwd",
        "/storage/other/missing",
    ],
)
def test_nothing_private_and_nothing_outside_is_given(
    service: Service, tmp_path: Path, mode: tuple[str, ...], path: str
) -> None:
    other = service.root / "other"
    for name, target in (("link", "/etc/passwd"), ("linked", "/etc")):
        (other / name).unlink(missing_ok=True)
        (other / name).symlink_to(target)
    try:
        done = scp(service, tmp_path, *mode, f"user@127.0.0.1:{path}", str(tmp_path / "got"))
        assert done.returncode != 0
        assert not (tmp_path / "got").exists()
        assert str(service.root) not in done.stderr
    finally:
        (other / "link").unlink()
        (other / "linked").unlink()


@MODES
@pytest.mark.parametrize("path", ["/storage/model_repository/x", "/storage/x", "/storage/ssh/authorized_keys", "/x"])
def test_nothing_is_written_outside_other(service: Service, tmp_path: Path, mode: tuple[str, ...], path: str) -> None:
    (tmp_path / "file").write_text("x")
    assert scp(service, tmp_path, *mode, str(tmp_path / "file"), f"user@127.0.0.1:{path}").returncode != 0
    assert not (service.root / "x").exists()
    assert not (service.root / "model_repository" / "x").exists()
    assert not (service.root / "ssh" / "authorized_keys").exists()


def test_sftp_makes_no_links_and_moves_nothing_out(service: Service, tmp_path: Path) -> None:
    (service.root / "other" / "mine").write_text("x")
    for command in (
        "symlink /etc/passwd /storage/other/evil",
        "ln /storage/ssh/host_key /storage/other/evil",
        "rename /storage/other/mine /storage/model_repository/mine",
        "rm /storage/model_repository/mine",
        "rmdir /storage/other",
        "rename /storage/other /storage/else",
        "mkdir /storage/model_repository/evil",
        "chmod 777 /storage/ssh",
        "put /etc/hostname /storage/ssh/authorized_keys",
    ):
        done = subprocess.run(
            ["sftp", *ssh_options(service, tmp_path / "known_hosts"), "-b", "-", "user@127.0.0.1"],
            input=command + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0, command
    assert (service.root / "other" / "mine").exists()
    assert not (service.root / "other" / "evil").exists()
    assert stat.S_IMODE((service.root / "ssh").stat().st_mode) == 0o700
    assert stat.S_IMODE((service.root / "ssh" / "host_key").stat().st_mode) == 0o600


def test_there_is_no_shell(service: Service, tmp_path: Path) -> None:
    options = [word.replace("-P", "-p") for word in ssh_options(service, tmp_path / "known_hosts")]
    for words in (["cat /etc/passwd"], []):
        done = subprocess.run(
            ["ssh", *options, "user@127.0.0.1", *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            input="",
        )
        assert done.returncode != 0
        assert "root:" not in done.stdout


@MODES
def test_a_copy_that_is_cut_off_leaves_nothing(service: Service, tmp_path: Path, mode: tuple[str, ...]) -> None:
    with (tmp_path / "big").open("wb") as stream:
        stream.truncate(300 << 20)
    words = ["scp", *ssh_options(service, tmp_path / "known_hosts"), "-l", "40000", *mode, str(tmp_path / "big")]
    process = subprocess.Popen([*words, "user@127.0.0.1:/storage/other/big"], start_new_session=True)
    other = service.root / "other"
    for _ in range(200):
        if any(part.stat().st_size > 1 << 20 for part in other.glob(".big*.part")):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the copy did not begin")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(100):
        if not list(other.glob(".big*")):
            break
        time.sleep(0.05)
    assert not list(other.glob(".big*"))
    assert not (other / "big").exists()


def test_a_token_is_the_password_and_keys_work(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    ask = tmp_path / "ask.sh"
    with running_storage(tmp_path / "storage", CLS_MODEL_STORAGE_TOKEN="right token") as service:
        (service.root / "other" / "f").write_text("content")
        words = ["user@127.0.0.1:/storage/other/f", str(tmp_path / "got")]
        refused = scp(service, tmp_path, *words)
        assert refused.returncode != 0
        for answer, is_right in (("wrong token", False), ("right token", True)):
            ask.write_text(f"#!/bin/sh\necho '{answer}'\n")
            ask.chmod(0o755)
            variables = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            passed = scp(service, tmp_path, "-o", "NumberOfPasswordPrompts=1", *words, **variables)
            assert (passed.returncode == 0) is is_right
        (service.root / "ssh" / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
        assert scp(service, tmp_path, "-i", str(key), "-o", "IdentitiesOnly=yes", *words).returncode == 0
