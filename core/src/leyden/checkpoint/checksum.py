"""Checksums of a checkpoint file: a short one of the whole, and those of its parts against its contents."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO, Any

# torch writes a zip archive, which has a CRC-32 of each part in a directory at its end, computed from the memory that was
# saved; torch does not look at them when it loads. So a checksum of the directory is one of the whole file, and costs nothing.


class DamagedCheckpoint(ValueError):
    """A checkpoint file is not what was written."""


def checksum(file: IO[bytes]) -> str:
    """A short text that changes with any change of the parts, their names or their sizes; reads the file's end only.

    Raises:
        ValueError: it is no zip archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = [(part.filename, part.CRC, part.file_size) for part in archive.infolist()]
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError) as error:
        raise ValueError(f"no zip archive: {error}") from None
    total = 0
    for part in parts:
        total = zlib.crc32(repr(part).encode(), total)
    return f"zip:{len(parts)}:{total:08x}"


def first_damage(file: IO[bytes]) -> str | None:
    """The name of the first part whose contents differ from its CRC, None if all are as they were written.

    Raises:
        ValueError: it is no zip archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            for part in archive.infolist():
                if not _is_whole(archive, part):
                    return part.filename
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError) as error:
        raise ValueError(f"no zip archive: {error}") from None
    return None


def _is_whole(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    if part.compress_type != zipfile.ZIP_STORED:
        try:
            with archive.open(part) as contents:
                while contents.read(1 << 20):
                    pass
        except (zipfile.BadZipFile, zlib.error, EOFError):
            return False
        return True
    # zipfile's own reading takes a third more time than this.
    file: Any = archive.fp
    file.seek(part.header_offset)
    header = file.read(30)
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        return False
    name_length, extra_length = struct.unpack("<HH", header[26:])
    if file.read(name_length) != part.orig_filename.encode("utf-8" if part.flag_bits & 0x800 else "cp437"):
        return False
    file.seek(extra_length, 1)
    left, crc = part.file_size, 0
    buffer = bytearray(min(left, 4 << 20))
    view = memoryview(buffer)
    while left:
        count = file.readinto(view[: min(left, len(view))])
        if not count:
            return False
        crc = zlib.crc32(view[:count], crc)
        left -= count
    return crc == part.CRC
