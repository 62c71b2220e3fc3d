"""What a checkpoint's file says of itself, read without running anything of it."""

from __future__ import annotations

import pickle
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from io import BytesIO
from typing import IO, Any

import torch

from leyden.masking import masked_text
from leyden.messages import listed, quoted

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what torch writes first in files that are no zip archives
_REBUILDS = ("torch._utils.", "torch._tensor.")  # they take sizes of views, which need no memory


def check_sizes(file: IO[bytes], path: object) -> None:
    """Refuses a file whose reading would take much more memory than the file has bytes.

    Compressed records are counted as they unpack, overlapping ones each, and each tensor's storage as large as it says it is.

    Args:
        file: seekable; its position is as before afterwards.
        path: its name, for the message.

    Raises:
        ValueError: it would; nothing was allocated yet. What is no checkpoint at all is left for others to say.
    """
    start = file.tell()
    try:
        _scan(file)
    except _TooLarge as error:
        size = file.seek(0, 2)
        raise ValueError(
            f"{quoted(str(path))} is refused: it would take more memory than its {size} bytes can fill: {error}"
        ) from None
    finally:
        file.seek(start)


def why_unreadable(file: IO[bytes], path: object, error: Exception) -> str:
    """The message for a file that ``torch.load(weights_only=True)`` refused with ``error``."""
    names = foreign_names(file)
    if not names:
        return f"{quoted(str(path))} cannot be read as a checkpoint of plain data: {error}"
    allowed = " ".join(f"--allow {name}" for name in names[:5])
    return (
        f"{quoted(str(path))} is refused: it names {listed(names)}, and to read it would run or make these; leyden reads "
        f"plain data only. If it is yours, keep what they hold as data: "
        f"leyden ckpt convert {masked_text(str(path))} NEW_FILE {allowed}"
    )


def foreign_names(file: IO[bytes]) -> list[str]:
    """Classes and functions that the file names and that are not plain data, as ``module.name``, sorted.

    Nothing named is imported.
    """
    start = file.tell()
    try:
        scanned = _scan(file)
    finally:
        file.seek(start)
    known = ("torch.", "collections.OrderedDict", "_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set")
    if scanned.zipped:
        file.seek(start)
        try:
            return sorted(map(present_name, torch.serialization.get_unsafe_globals_in_checkpoint(BytesIO(file.read()))))
        except Exception:  # pickles that torch cannot walk through either
            pass
        finally:
            file.seek(start)
    return sorted(name for name in scanned.names if not name.startswith(known))


_ITEM_SIZES = {
    **dict.fromkeys(("ComplexDoubleStorage",), 16),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
}  # bytes of an item; torch's own table warns of its age when it is asked


def present_name(path: str) -> str:
    """A dotted name as Python 3 has it; pickles of torch keep those of Python 2, such as ``commands.call``."""
    module, _, name = path.rpartition(".")
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


class _Scanned:
    def __init__(self, zipped: bool) -> None:
        self.zipped = zipped
        self.names: set[str] = set()
        self.storages: dict[str, int] = {}  # claimed bytes by key


class _Inert:
    """Stands for an object of any class: takes whatever a pickle does with it, and does nothing."""

    path = ""
    limit = 0

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        flat = [item for arg in args for item in (arg if type(arg) is tuple else (arg,))]
        largest = max((item for item in flat if type(item) is int), default=0)
        if largest > cls.limit and not cls.path.startswith(_REBUILDS):
            raise _TooLarge(f"it asks {cls.path} for {largest} bytes or items")
        return super().__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return self  # as what getattr(...) would have found

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...

    def update(self, items: Any) -> None: ...


class _TooLarge(ValueError):
    """The reason that a file is refused for."""


# The unpickler in C reserves as many places as the largest memo index says; this one keeps a dict.
class _InertUnpickler(pickle._Unpickler):
    def __init__(self, file: IO[bytes], scanned: _Scanned, limit: int) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._scanned, self._limit = scanned, limit
        self._classes: dict[str, type[_Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        path = present_name(f"{module}.{name}")
        if not all(part.isidentifier() for part in path.split(".")):
            raise pickle.UnpicklingError("a text, or another file that is no pickle")
        self._scanned.names.add(path)
        if path not in self._classes:
            self._classes[path] = type(name, (_Inert,), {"path": path, "limit": self._limit})
        return self._classes[path]

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"extension {code}")  # the interpreter's registry is no business of a file

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            _, kind, key, _, count = pid[:5]
            if type(count) is int:
                size = count * _item_size(getattr(kind, "path", ""))
                self._scanned.storages[str(key)] = max(size, self._scanned.storages.get(str(key), 0))
        return _Inert()


def _item_size(kind: str) -> int:
    return _ITEM_SIZES.get(kind.rpartition(".")[2], 1)


def _scan(file: IO[bytes]) -> _Scanned:
    """What the file says, as far as it can be read.

    Raises:
        _TooLarge: it says something that would take too much memory.
    """
    size = file.seek(0, 2)
    file.seek(0)
    scanned = _Scanned(zipped=file.read(4) == b"PK\x03\x04")
    file.seek(0)
    try:
        if scanned.zipped:
            _scan_zip(file, size, scanned)
        else:
            _scan_legacy(file, size, scanned)
    except _TooLarge:
        raise
    except Exception:  # cut off, not a checkpoint, or a pickle that does odd things: whoever loads it says so
        pass
    return scanned


def _scan_zip(file: IO[bytes], size: int, scanned: _Scanned) -> None:
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: info.file_size for info in archive.infolist()}
        total = sum(info.file_size for info in archive.infolist())
        if total > size:
            raise _TooLarge(f"its records unpack to {total} bytes")
        [program] = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
        content = archive.read(program)  # no more than the file, as was just seen
    try:
        _InertUnpickler(BytesIO(content), scanned, size).load()
    finally:
        root = program.rpartition("/")[0]
        for key, claimed in scanned.storages.items():
            found = records.get(f"{root}/data/{key}", 0)
            if claimed > found:
                raise _TooLarge(f"a tensor claims {claimed} bytes of a record that has {found}")


def _scan_legacy(file: IO[bytes], size: int, scanned: _Scanned) -> None:
    # A plain pickle is walked through too, so that what it names can be said.
    if _InertUnpickler(file, scanned, size).load() != _LEGACY_MAGIC:
        return
    try:
        for _ in range(3):  # the protocol, the system, and then the objects
            _InertUnpickler(file, scanned, size).load()
    finally:
        claimed = sum(scanned.storages.values())
        if claimed > size:
            raise _TooLarge(f"its tensors claim {claimed} bytes")
