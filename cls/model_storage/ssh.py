"""The SSH server in front of the files: who may log in, and the host's key."""

# ruff: noqa: ARG002 (the signatures are those of the class overridden)

from __future__ import annotations

import asyncio
import hmac
import os
import socket
from pathlib import Path

import asyncssh

from cls.errors import StorageError
from cls.files import write_bytes_atomic
from cls.model_storage.sftp import StorageFiles

HOST_KEY_FILE_NAME = "host_key"
AUTHORIZED_KEYS_FILE_NAME = "authorized_keys"
_LOGIN_TIMEOUT_S = 30
_WRONG_PASSWORD_PAUSE_S = 1.0


class _Logins(asyncssh.SSHServer):
    """Decides about one connection's login. Any user name will do; it is not looked at."""

    def __init__(self, token: str, authorized_keys: Path) -> None:
        self._token = token
        self._authorized_keys = authorized_keys
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        """Whether a proof is asked for: yes where a token or a file of keys is set up."""
        has_keys = self._authorized_keys.is_file()
        if has_keys and self._connection is not None:
            self._connection.set_authorized_keys(str(self._authorized_keys))
        return bool(self._token) or has_keys

    def password_auth_supported(self) -> bool:
        return bool(self._token)

    async def validate_password(self, username: str, password: str) -> bool:
        if self._token and hmac.compare_digest(password.encode(), self._token.encode()):
            return True
        await asyncio.sleep(_WRONG_PASSWORD_PAUSE_S)
        return False


async def serve_files(listener: socket.socket, *, root: Path, ssh_folder: Path, token: str) -> asyncssh.SSHAcceptor:
    """Serves a storage root over SFTP and SCP; no shell, no commands, no forwarding.

    Args:
        listener: a bound socket.
        root: the storage root, shown as `/storage`.
        ssh_folder: holds the host's key (made when missing) and `authorized_keys` (optional).
        token: accepted as the password; empty for none. Without it and without keys everyone who reaches the port may
            log in: the service sees to it that this is only on loopback.

    Raises:
        StorageError: the host's key cannot be read or made.
    """
    host_key = await asyncio.to_thread(_host_key, ssh_folder / HOST_KEY_FILE_NAME)
    return await asyncssh.listen(
        sock=listener,
        config=None,
        server_factory=lambda: _Logins(token, ssh_folder / AUTHORIZED_KEYS_FILE_NAME),
        server_host_keys=[host_key],
        sftp_factory=lambda channel: StorageFiles(channel, root),
        allow_scp=True,
        allow_pty=False,
        agent_forwarding=False,
        gss_host=None,
        compression_algs=["none"],
        login_timeout=_LOGIN_TIMEOUT_S,
        keepalive_interval=30,
    )


def _host_key(path: Path) -> asyncssh.SSHKey:
    try:
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519", comment="CLS model storage")
            previous = os.umask(0o077)
            try:
                write_bytes_atomic(path, key.export_private_key())
            finally:
                os.umask(previous)
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise StorageError(
            f"the host key cannot be used: {error}", where=path, hint="remove the file and a new one is made"
        ) from error
