"""Files that appear whole or not at all, their digests, and folder names made from any text."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from cls.errors import ClsError, FileError

if TYPE_CHECKING:
    from yaml import Node

_PART = ".part"
# What zipfile raises for a broken file, a damaged member, an encrypted one, an unknown compression.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)
# Letters of any alphabet, digits, space and these signs keep their look in a folder name; the rest is percent-encoded.
_SAFE_SIGNS = set(" ._-+=,@()[]!#&'")
_MAX_NAME_BYTES = 200
_MAX_YAML_BYTES = 2**20
_MAX_YAML_VALUES = 100_000  # aliases written out
_MAX_YAML_DEPTH = 50
_MAX_YAML_NUMBER_SIGNS = 100  # PyYAML reads a number such as 1:30:00 in time that grows with its square
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The temporary name starts with a dot and ends in `.part`, so a killed process leaves nothing under a final name.

    Args:
        path: the final file; its folder is made when missing, an older file is replaced.

    Yields:
        Where to write.

    Raises:
        FileError: the file cannot be written (no space, no permission).
    """
    part = path.with_name(f".{_part_stem(path.name)}.{os.getpid()}-{secrets.token_hex(4)}{_PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
        with suppress(OSError):  # some systems do not open folders
            sync(path.parent)
    except OSError as error:
        # Errors of other files that the block reads or writes are not ours to explain.
        if error.filename not in (None, str(part), str(path)):
            raise
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _part_stem(name: str) -> str:
    """The start of a temporary name: short enough for every file system, also in an alphabet of many bytes a sign."""
    return os.fsencode(name)[:80].decode(errors="ignore")


def write_error(path: Path, error: OSError, hint: str | None = "check free space and permissions") -> FileError:
    """The error of a file that cannot be written, to be raised: `no_space` where the disk or a quota is full."""
    return FileError(
        f"cannot be written: {error.strerror or error}",
        code="no_space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unwritable",
        where=path,
        hint=hint,
    )


@contextmanager
def locked(path: Path, busy: ClsError | None = None) -> Iterator[None]:
    """Holds a lock file, whose folder is made when missing; released when the block or the process ends.

    Args:
        path: the lock file.
        busy: raised at once where another process holds the lock; when not given, the lock is waited for.

    Raises:
        FileError: the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if busy is None else 0)
    except Timeout as error:
        raise busy or error from None
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Makes a file's content or a folder's names durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path, name: str = "") -> int:
    """Removes temporary files that a killed process left in a folder (not below it); returns how many.

    Args:
        folder: where to look.
        name: only those of the file of this name, where others may be writing in the same folder.
    """
    count = 0
    for part in folder.glob(f".{escape(_part_stem(name))}*{_PART}"):
        with suppress(OSError):
            part.unlink()
            count += 1
    return count


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with atomic_path(path) as part:
        part.write_bytes(content)


def write_text_atomic(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    write_bytes_atomic(path, text.encode())


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of one's own signs; text that no file can hold (half a surrogate pair) as JSON's escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return json.dumps(value, indent=indent) if any("\ud800" <= sign <= "\udfff" for sign in text) else text


def write_json_atomic(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Writes a JSON file (UTF-8, NaN refused) whole or not at all."""
    write_text_atomic(path, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileError: it is missing, cannot be read or is not JSON; names line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileError("there is no such file", code="not_found", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot be read: {error}", code="unreadable", where=path) from error
    except json.JSONDecodeError as error:
        raise FileError(
            f"is not JSON: {error.msg}", code="not_json", where=f"{path}:{error.lineno}:{error.colno}"
        ) from error
    except RecursionError as error:
        raise FileError("is not JSON: nested too deeply", code="not_json", where=path) from error


def read_yaml(path: Path) -> Any:
    """Reads a YAML file of plain values: at most 1 MiB, 100,000 values with aliases written out, and 50 levels.

    Raises:
        FileError: it is missing, cannot be read, is not YAML, has a key twice, or is larger; names line and column.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_YAML_BYTES + 1)
        if len(content) > _MAX_YAML_BYTES:
            raise FileError(f"is longer than {_MAX_YAML_BYTES} bytes", code="too_large", where=path)
        return parse_yaml(content.decode("utf-8-sig"), path)
    except FileNotFoundError:
        raise FileError("there is no such file", code="not_found", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot be read: {error}", code="unreadable", where=path) from error


def parse_yaml(text: str, where: object) -> Any:
    """The plain values of a YAML text, with the bounds of `read_yaml`.

    Args:
        text: the YAML.
        where: what errors name.

    Raises:
        FileError: it is not YAML, has a key twice, or is larger; names line and column.
    """
    import yaml  # here, for commands that read no YAML

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_yaml_size(node, where)
            _check_yaml_keys(node, where, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise FileError(f"is not YAML: {getattr(error, 'problem', error)}", code="not_yaml", where=place) from error
    except RecursionError as error:
        raise FileError("is not YAML: nested too deeply", code="not_yaml", where=where) from error
    except (OverflowError, ValueError) as error:
        raise FileError(f"is not YAML: {error}", code="not_yaml", where=where) from error
    except (AttributeError, LookupError) as error:
        # PyYAML's own readers of `!!timestamp`, `!!bool` and `!!int` expect a fitting value.
        raise FileError("is not YAML: a value is not what its tag says", code="not_yaml", where=where) from error


def _check_yaml_size(root: Node, where: object) -> None:
    """Refuses what is small as a text and large once its aliases are written out, or never ends."""
    import yaml

    known: dict[Node, tuple[int, int]] = {}

    def size(node: Node, depth: int) -> tuple[int, int]:
        """How many values a node is, and on how many levels."""
        if depth > _MAX_YAML_DEPTH:
            raise FileError("is not YAML: nested too deeply", code="not_yaml", where=where)
        if isinstance(node, yaml.ScalarNode):
            if node.tag.endswith((":int", ":float")) and len(node.value) > _MAX_YAML_NUMBER_SIGNS:
                raise FileError("is not YAML: a number is too long", code="not_yaml", where=where)
            return 1, 1
        if node not in known:
            inner = node.value if isinstance(node, yaml.SequenceNode) else chain.from_iterable(node.value)
            counts, levels = zip((1, 0), *(size(value, depth + 1) for value in inner), strict=True)
            known[node] = sum(counts), 1 + max(levels)
        return known[node]

    count, levels = size(root, 1)
    if levels > _MAX_YAML_DEPTH:
        raise FileError("is not YAML: nested too deeply", code="not_yaml", where=where)
    if count > _MAX_YAML_VALUES:
        raise FileError(f"holds more than {_MAX_YAML_VALUES} values", code="too_large", where=where)


def _check_yaml_keys(node: Node, where: object, checked: set[Node]) -> None:
    """Refuses a mapping that has a key twice, of which PyYAML takes the last."""
    import yaml

    if isinstance(node, yaml.ScalarNode) or node in checked:
        return
    checked.add(node)
    keys = set()
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
            if name in keys:
                place = f"{where}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
                raise FileError(f"has the key '{key.value}' twice", code="duplicate_key", where=place)
            keys.add(name)
    for value in node.value if isinstance(node, yaml.SequenceNode) else chain.from_iterable(node.value):
        _check_yaml_keys(value, where, checked)


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def safe_name(text: str) -> str:
    """A file or folder name for any text; different texts give different names, plain ones stay as they are.

    Signs that file systems, shells or URLs give a meaning are percent-encoded; a name too long for a file system is cut
    and ends in a digest of the whole text.

    Raises:
        FileError: the text is empty.
    """
    if not text:
        raise FileError("an empty text cannot name a folder", code="empty_name", hint="give the group a name")
    name = "".join(sign if sign.isalnum() or sign in _SAFE_SIGNS else quote(sign, safe="") for sign in text)
    if name[0] in ". -" or _RESERVED.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name[-1] in ". ":
        name = f"{name[:-1]}%{ord(name[-1]):02X}"
    if len(name.encode()) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = name.encode()[: _MAX_NAME_BYTES - 18].decode(errors="ignore") + "~" + digest
    return name


def text_of_safe_name(name: str) -> str:
    """The text that `safe_name` made a name of (not for names cut for their length)."""
    return unquote(name)
