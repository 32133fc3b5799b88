"""The SSH server in front of the files: scp and SFTP, who may log in, and the host's key."""

from __future__ import annotations

import asyncio
import hmac

# ruff: noqa: ARG002 (the signatures are those of the class overridden)
import io
import os
import posixpath
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
from asyncssh import SFTPAttrs, SFTPName, SFTPServer

from cls.errors import StorageError
from cls.files import remove_parts, write_bytes_atomic

SHARE = "/storage"
WRITABLE = "other"
_PRIVATE = ("ssh",)
_WRITING = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC | asyncssh.FXF_EXCL

HOST_KEY_FILE_NAME = "host_key"
AUTHORIZED_KEYS_FILE_NAME = "authorized_keys"
_LOGIN_TIMEOUT_S = 30
_WRONG_PASSWORD_PAUSE_S = 1.0


class IncomingFile(io.FileIO):
    """A file on its way in: it gets its name when it is whole."""

    def __init__(self, part: Path, target: Path) -> None:
        super().__init__(part, "xb")
        self.part = part
        self.target = target
        self.is_broken = False


class StorageFiles(SFTPServer):
    """One client's view of the storage root.

    Private files of the service (names with a dot in front, `ssh`) do not exist here. Links are neither followed nor
    made, so nothing leads out of the root.
    """

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], root: Path) -> None:
        super().__init__(channel)
        self._root = root.resolve()

    def _parts(self, path: bytes) -> tuple[str, ...]:
        """The parts of a path below the share; of `/` itself none at all: see `_is_top`."""
        try:
            text = posixpath.normpath(posixpath.join(SHARE, path.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise asyncssh.SFTPNoSuchFile("File names are UTF-8 here") from error
        if text != SHARE and not text.startswith(SHARE + "/"):
            raise asyncssh.SFTPNoSuchFile(f"There is only {SHARE} here")
        parts = tuple(part for part in text.removeprefix(SHARE).split("/") if part)
        if "\0" in text or (parts and (parts[0].startswith(".") or parts[0] in _PRIVATE)):
            raise asyncssh.SFTPNoSuchFile("No such file")
        return parts

    @staticmethod
    def _is_top(path: bytes) -> bool:
        return posixpath.normpath(posixpath.join(SHARE.encode(), path)) in (b"/", b"//")

    def map_path(self, path: bytes) -> bytes:
        """The local path of what a client names.

        Raises:
            SFTPNoSuchFile: it is not below the share, or private.
            SFTPPermissionDenied: it leads through a link.
        """
        if self._is_top(path):
            return os.fsencode(self._root)
        local = self._root.joinpath(*self._parts(path))
        if Path(os.path.realpath(local)) != local:
            raise asyncssh.SFTPPermissionDenied("Links are not followed")
        return os.fsencode(local)

    def _writable(self, path: bytes) -> Path:
        """The local path of something that may be changed."""
        if self._is_top(path) or len(parts := self._parts(path)) < 2 or parts[0] != WRITABLE:
            raise asyncssh.SFTPPermissionDenied(f"Only files in {SHARE}/{WRITABLE} can be changed")
        return Path(os.fsdecode(self.map_path(path)))

    def realpath(self, path: bytes) -> bytes:
        """The path with `.` and `..` resolved, as the client sees it."""
        if self._is_top(path):
            return b"/"
        return "/".join((SHARE, *self._parts(path))).encode()

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """What is in a folder, without what is private."""
        if self._is_top(path):
            for name in (b".", b"..", SHARE[1:].encode()):
                yield SFTPName(name, attrs=SFTPAttrs.from_local(self._root.stat()))
            return
        is_share = not self._parts(path)
        async for entry in super().scandir(path):
            text = entry.filename if isinstance(entry.filename, str) else os.fsdecode(entry.filename)
            is_private = is_share and (text.startswith(".") or text in _PRIVATE)
            is_part = text.startswith(".") and text.endswith(".part")
            if text in (".", "..") or not (is_private or is_part):
                yield entry

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        """Opens a file for reading, or for writing as a whole new file that appears when it is closed."""
        if not pflags & _WRITING:
            with _without_local_path():
                return io.FileIO(os.open(self.map_path(path), os.O_RDONLY | os.O_NOFOLLOW), "rb")
        target = self._writable(path)
        # OpenSSH's scp asks for WRITE and CREAT alone, writes all of the file, and sets its length at the end.
        if pflags & (asyncssh.FXF_APPEND | asyncssh.FXF_READ) or not pflags & asyncssh.FXF_CREAT:
            raise asyncssh.SFTPOpUnsupported("Files are written whole: no appending, resuming or changing in place")
        if pflags & asyncssh.FXF_EXCL and target.exists():
            raise asyncssh.SFTPFileAlreadyExists("File already exists")
        if target.is_dir():
            raise asyncssh.SFTPFileIsADirectory("Is a directory")
        if not target.parent.is_dir():
            raise asyncssh.SFTPNoSuchPath("No such folder")
        with _without_local_path():
            return IncomingFile(target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.part"), target)

    def stat(self, path: bytes) -> SFTPAttrs:
        """What a file or folder is."""
        with _without_local_path():
            return SFTPAttrs.from_local(os.lstat(self.map_path(path)))

    lstat = stat  # links are not followed

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: SFTPAttrs) -> object:
        """Refused, so that clients of this protocol version go back to version 3."""
        raise asyncssh.SFTPOpUnsupported("SFTP version 3 is spoken here")

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Writes; a file of which a part could not be written never appears."""
        if not isinstance(file_obj, IncomingFile):
            raise asyncssh.SFTPPermissionDenied("The file is open for reading")
        try:
            file_obj.seek(offset)
            view = memoryview(data)
            while view:
                view = view[file_obj.write(view) :]
        except OSError:
            file_obj.is_broken = True
            raise
        return len(data)

    def close(self, file_obj: object) -> None:
        """Closes a file; one that came in whole gets its name, one that was cut off vanishes."""
        if not isinstance(file_obj, IncomingFile):
            super().close(file_obj)
            return
        # asyncssh closes the files of a connection that broke while it handles the error that broke it.
        is_whole = not file_obj.is_broken and sys.exc_info()[1] is None
        try:
            if is_whole:
                os.fsync(file_obj.fileno())
                file_obj.close()
                file_obj.part.replace(file_obj.target)
        finally:
            file_obj.close()
            file_obj.part.unlink(missing_ok=True)

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Sets times and permissions of a file in the writable folder; owners stay as they are."""
        self._writable(path)
        super().setstat(path, _harmless(attrs))

    lsetstat = setstat  # there are no links

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Sets times and permissions of a file on its way in."""
        if not isinstance(file_obj, IncomingFile):
            raise asyncssh.SFTPPermissionDenied("The file is open for reading")
        super().fsetstat(file_obj, _harmless(attrs))

    def remove(self, path: bytes) -> None:
        """Removes a file of the writable folder."""
        self._writable(path).unlink()

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Makes a folder in the writable folder."""
        self._writable(path).mkdir(mode=0o755)

    def rmdir(self, path: bytes) -> None:
        """Removes an empty folder of the writable folder."""
        folder = self._writable(path)
        remove_parts(folder)
        folder.rmdir()

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Renames within the writable folder; does not replace."""
        source, target = self._writable(oldpath), self._writable(newpath)
        if target.exists():
            raise asyncssh.SFTPFileAlreadyExists("File already exists")
        source.rename(target)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Renames within the writable folder; replaces."""
        source, target = self._writable(oldpath), self._writable(newpath)
        source.replace(target)

    def readlink(self, path: bytes) -> bytes:
        """Refused: there are no links here."""
        raise asyncssh.SFTPPermissionDenied("There are no links here")

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Refused: a link could lead out of the storage."""
        raise asyncssh.SFTPPermissionDenied("Links cannot be made")

    link = symlink

    def exit(self) -> None:
        """Ends the session with status 0: without it, OpenSSH's scp reports a failure after a good copy."""
        self.channel.exit(0)


@contextmanager
def _without_local_path() -> Iterator[None]:
    """Leaves the path on this host out of errors of the operating system."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror) from error


def _harmless(attrs: SFTPAttrs) -> SFTPAttrs:
    """Times and permission bits only: no owner, no set-user-id."""
    permissions = None if attrs.permissions is None else attrs.permissions & 0o777
    has_times = attrs.atime is not None and attrs.mtime is not None
    return SFTPAttrs(
        permissions=permissions,
        atime=attrs.atime if has_times else None,
        mtime=attrs.mtime if has_times else None,
    )


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
            f"the host key cannot be used: {error}",
            code="host_key_unusable",
            where=path,
            hint="remove the file and a new one is made",
        ) from error
