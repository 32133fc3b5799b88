"""Keys are written once, kept from others, and read strictly; what is secret is never told."""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import FileError
from cls.package.keys import (
    MAX_KEY_FILE_BYTES,
    MAX_TRUSTED_KEYS,
    SigningKey,
    fingerprint_of,
    is_signed_by,
    make_key,
    read_signing_key,
    read_trusted_keys,
    trusted_keys,
)
from cls.settings import load_settings
from tests.required_tools import need_program

PASSPHRASE = "correct horse"


def public_lines(count: int) -> list[str]:
    """So many public keys, which nobody can sign with."""
    return [public_line(some_key(number)) for number in range(count)]


def some_key(number: int) -> bytes:
    return hashlib.sha256(bytes([number % 256, number // 256])).digest()


def public_line(key: bytes) -> str:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + key
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def refusal(path: Path, **options: str) -> FileError:
    with pytest.raises(FileError) as caught:
        read_signing_key(path, **options)
    return caught.value


def test_a_key_pair_is_written_and_read_back(tmp_path: Path) -> None:
    made = make_key(tmp_path / "team.key")
    assert stat.S_IMODE((tmp_path / "team.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["team.key", "team.key.pub"]
    again = read_signing_key(tmp_path / "team.key")
    assert (again.fingerprint, again.public_line) == (made.fingerprint, made.public_line)
    assert again.sign(b"x") == made.sign(b"x")
    trust = read_trusted_keys([tmp_path / "team.key.pub"])
    assert [fingerprint for fingerprint, _ in trust.keys] == [made.fingerprint]
    public_key = trust.find(made.fingerprint)
    assert public_key is not None
    assert is_signed_by(public_key, made.sign(b"x"), b"x")
    assert not is_signed_by(public_key, made.sign(b"x"), b"y")
    assert trust.find("SHA256:other") is None


def test_openssh_says_the_same_fingerprint_of_the_same_file(tmp_path: Path) -> None:
    need_program("ssh-keygen", "openssh-client")
    made = make_key(tmp_path / "team.key")
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "team.key.pub")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[:3] == ["256", made.fingerprint, "team.key"]


@pytest.mark.parametrize("name", [b"two\nlines.key", b"\xff.key", "Schlüssel der Gruppe.key".encode(), b"PRIVATE KEY"])
def test_any_name_of_a_key_file(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    made = make_key(path)
    assert [fingerprint for fingerprint, _ in read_trusted_keys([tmp_path]).keys] == [made.fingerprint]


@pytest.mark.parametrize("there", ["team.key", "team.key.pub"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(FileError) as caught:
        make_key(tmp_path / "team.key")
    assert caught.value.code == "file.already_exists"
    assert caught.value.where == str(tmp_path / there)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "mine"}


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "team.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError) as caught:
        make_key(tmp_path / "team.key")
    assert caught.value.code == "file.already_exists"
    assert not (tmp_path / "elsewhere").exists()


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        make_key(tmp_path / "none" / "team.key")
    assert caught.value.code == "file.unwritable"
    assert caught.value.where == str(tmp_path / "none" / "team.key")
    assert list(tmp_path.iterdir()) == []


def test_a_public_key_that_cannot_be_written_takes_the_private_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Path.hardlink_to

    def fails_for_public(self: Path, target: Path) -> None:
        if self.suffix == ".pub":
            raise OSError(28, "No space left on device")
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", fails_for_public)
    with pytest.raises(FileError) as caught:
        make_key(tmp_path / "team.key")
    assert caught.value.code == "file.no_space"
    assert list(tmp_path.iterdir()) == []


def test_a_passphrase_encrypts(tmp_path: Path) -> None:
    path = tmp_path / "team.key"
    made = make_key(path, passphrase=PASSPHRASE)
    assert read_signing_key(path, passphrase=PASSPHRASE).fingerprint == made.fingerprint
    assert "CLS_SIGNING_PASSPHRASE" in (refusal(path).hint or "")
    wrong = refusal(path, passphrase="wrong")
    assert wrong.code == "file.wrong_passphrase"
    assert "wrong" not in wrong.what.replace("is wrong", "")
    # One that is set for another key does not matter to a key that is not encrypted.
    make_key(tmp_path / "plain.key")
    read_signing_key(tmp_path / "plain.key", passphrase=PASSPHRASE)


def test_the_length_of_a_passphrase(tmp_path: Path) -> None:
    make_key(tmp_path / "a.key", passphrase="x" * 1023)
    read_signing_key(tmp_path / "a.key", passphrase="x" * 1023)
    with pytest.raises(FileError) as caught:
        make_key(tmp_path / "b.key", passphrase="x" * 1024)
    assert caught.value.code == "file.passphrase_too_long"
    assert "1023 bytes" in caught.value.what
    assert not (tmp_path / "b.key").exists()
    assert refusal(tmp_path / "a.key", passphrase="x" * 1024).code == "file.wrong_passphrase"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o777])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "team.key"
    make_key(path)
    path.chmod(mode)
    error = refusal(path)
    assert error.code == "file.insecure_permissions"
    assert f"mode {mode:04o}" in error.what
    assert "chmod 600" in (error.hint or "")
    path.chmod(0o400)
    read_signing_key(path)


def test_what_is_no_private_key_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    key = make_key(path)
    secret = path.read_bytes()
    body = secret.splitlines()[1].decode()
    other = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content, code in (
        (b"", "file.not_a_private_key"),
        (b"\xff\xfe", "file.not_a_private_key"),
        (secret[:-40], "file.not_a_private_key"),
        (secret.replace(b"M", b"!"), "file.not_a_private_key"),
        (key.public_line.encode(), "file.public_key_given"),
        (other, "file.unsupported_key_type"),
    ):
        path.write_bytes(content)
        error = refusal(path)
        assert error.code == code
        assert body not in error.line()
    path.unlink()
    assert refusal(path).code == "file.not_found"
    path.mkdir()
    assert refusal(path).code == "file.unreadable"


def test_a_key_file_has_a_longest_size(tmp_path: Path) -> None:
    path = tmp_path / "keys.pub"
    line = public_lines(1)[0] + "\n"
    path.write_text(line + "#" * (MAX_KEY_FILE_BYTES - len(line)))
    assert len(read_trusted_keys([path]).keys) == 1
    path.write_text(line + "#" * (MAX_KEY_FILE_BYTES - len(line) + 1))
    with pytest.raises(FileError) as caught:
        read_trusted_keys([path])
    assert caught.value.code == "file.too_large"
    assert f"{MAX_KEY_FILE_BYTES} bytes" in caught.value.what


def test_a_private_key_shows_itself_nowhere(tmp_path: Path) -> None:
    key = make_key(tmp_path / "team.key")
    assert repr(key) == f"SigningKey(fingerprint={key.fingerprint!r}, public_line={key.public_line!r})"
    assert isinstance(key, SigningKey)


def test_trusted_keys_of_files_folders_and_lines(tmp_path: Path) -> None:
    lines = public_lines(5)
    (tmp_path / "two").write_text(f"# the team's\n\n{lines[0]} a comment\n  {lines[1]}\r\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.pub").write_text(lines[2])
    (folder / "b.pub").write_text(f"{lines[3]}\n{lines[0]}\n")
    (folder / "README").write_text("not a key")
    found = read_trusted_keys([tmp_path / "two", folder])
    expected = {fingerprint_of(some_key(number)) for number in range(4)}
    assert {fingerprint for fingerprint, _ in found.keys} == expected
    assert pickle.loads(pickle.dumps(found)) == found  # they travel to a cluster's workers
    assert hash(found)


@pytest.mark.parametrize(
    "line",
    [
        "ssh-rsa AAAAB3NzaC1yc2E=",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "cert-authority " + public_lines(1)[0],
        public_lines(1)[0] + "AAAA",
        public_lines(1)[0][:-4],
        public_lines(1)[0].replace("ssh-ed25519", "ssh-ed25518"),
        "secret words",
        "\x00",
    ],
)
def test_lines_that_are_no_key_name_their_place_and_not_their_content(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{public_lines(2)[1]}\n{line}\n")
    with pytest.raises(FileError) as caught:
        read_trusted_keys([path])
    assert caught.value.code == "file.not_a_public_key"
    assert caught.value.where == f"{path}:2"
    assert "secret words" not in caught.value.line()


def test_a_private_key_is_not_to_be_trusted(tmp_path: Path) -> None:
    make_key(tmp_path / "team.key")
    with pytest.raises(FileError) as caught:
        read_trusted_keys([tmp_path / "team.key"])
    assert caught.value.code == "file.private_key_given"
    assert (tmp_path / "team.key").read_text().splitlines()[1] not in caught.value.line()


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    lines = public_lines(20)
    for number in (*range(1, 20, 2), *range(0, 20, 2)):
        (tmp_path / f"{number:02d}.pub").write_text(lines[number])
    found = [fingerprint for fingerprint, _ in read_trusted_keys([tmp_path]).keys]
    assert found == [fingerprint_of(some_key(number)) for number in range(20)]


def test_no_keys_are_no_trust(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(FileError) as caught:
        read_trusted_keys([tmp_path / "empty"])
    assert caught.value.code == "file.no_public_keys"
    assert caught.value.where == str(tmp_path / "empty")
    with pytest.raises(FileError) as caught:
        read_trusted_keys([tmp_path])
    assert caught.value.code == "file.no_public_keys"
    assert caught.value.where == str(tmp_path)
    with pytest.raises(FileError) as caught:
        read_trusted_keys([tmp_path / "none"])
    assert caught.value.code == "file.not_found"
    assert caught.value.where == str(tmp_path / "none")


def test_how_many_keys_are_trusted(tmp_path: Path) -> None:
    lines = public_lines(MAX_TRUSTED_KEYS + 1)
    half = MAX_TRUSTED_KEYS // 2
    (tmp_path / "a").write_text("\n".join(lines[:half]))
    (tmp_path / "b").write_text("\n".join(lines[half:MAX_TRUSTED_KEYS]))
    (tmp_path / "c").write_text(lines[-1])
    assert len(read_trusted_keys([tmp_path / "a", tmp_path / "b", tmp_path / "a"]).keys) == MAX_TRUSTED_KEYS
    with pytest.raises(FileError) as caught:
        read_trusted_keys([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert caught.value.code == "file.too_many_keys"
    assert f"{MAX_TRUSTED_KEYS} keys" in caught.value.what


def test_the_configuration_s_keys_are_used_where_no_others_are_given(tmp_path: Path) -> None:
    lines = public_lines(2)
    (tmp_path / "team.pub").write_text(lines[0])
    (tmp_path / "other.pub").write_text(lines[1])
    (tmp_path / "configuration.yaml").write_text("data_path: b\npackage_trust: team.pub\n")
    settings = load_settings(tmp_path / "configuration.yaml", {})
    assert settings.package_trust == tmp_path / "team.pub"
    assert trusted_keys(None, settings) == read_trusted_keys([tmp_path / "team.pub"])
    assert trusted_keys([tmp_path / "other.pub"], settings) == read_trusted_keys([tmp_path / "other.pub"])
    none = load_settings(tmp_path / "configuration.yaml", {"CLS_PACKAGE_TRUST": ""})
    assert none.package_trust is None
    assert trusted_keys(None, none) is trusted_keys([], none) is None
    # A configured key that is gone is an error, never no check at all.
    (tmp_path / "team.pub").unlink()
    with pytest.raises(FileError):
        trusted_keys(None, settings)


def test_the_passphrase_is_a_secret_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("data_path: b\n")
    settings = load_settings(tmp_path / "configuration.yaml", {"CLS_SIGNING_PASSPHRASE": PASSPHRASE})
    assert settings.signing_passphrase == PASSPHRASE
    assert PASSPHRASE not in repr(settings)
    assert PASSPHRASE not in repr(replace(settings, package_trust=tmp_path))


P = 2**255 - 19


@pytest.mark.parametrize("sign_bit", [0, 0x80])
@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        P - 1,
        P,
        P + 1,
        # The two of order 8, by their curve's equation.
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    ],
)
def test_keys_in_whose_name_anybody_signs_are_refused(tmp_path: Path, y: int, sign_bit: int) -> None:
    assert has_small_order(y % P)
    key = bytearray(y.to_bytes(32, "little"))
    key[-1] |= sign_bit
    (tmp_path / "a.pub").write_text(public_line(bytes(key)))
    with pytest.raises(FileError) as caught:
        read_trusted_keys([tmp_path])
    assert caught.value.code == "file.weak_key"


def has_small_order(y: int) -> bool:
    """Whether eight times a point with this y is the neutral one: doubled three times by RFC 8032's formulas."""
    d = -121665 * pow(121666, -1, P) % P
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - x2) % P == 0
    for _ in range(3):
        k = d * x * x * y * y
        x, y = 2 * x * y * pow(1 + k, -1, P) % P, (y * y + x * x) * pow(1 - k, -1, P) % P
    return (x, y) == (0, 1)


@given(key=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64), message=st.binary())
def test_no_signature_is_guessed(key: bytes, signature: bytes, message: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "a.pub").write_text(public_line(key))
        try:
            trust = read_trusted_keys([Path(folder)])
        except FileError:
            return
    found = trust.find(fingerprint_of(key))
    assert found == key
    assert not is_signed_by(found, signature, message)


def test_keys_are_made_anew_each_time(tmp_path: Path) -> None:
    made = {make_key(tmp_path / f"{number}.key").fingerprint for number in range(3)}
    assert len(made) == 3
