"""Says what a file is that is not a checkpoint."""

from __future__ import annotations

import os
import struct
from typing import IO

_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself with git lfs pull"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
)

SAFETENSORS = "a file of safetensors"

_FIRST_PARTS = (b"/data.pkl", b"/constants.pkl", b"/.format_version", b"/byteorder", b"/version")
"""Which part of torch's archives may come first."""


def what_is(file: IO[bytes], expected: int | None = None) -> str | None:
    """What a file is, for "it is ..."; None if by its shape it may be a checkpoint.

    Args:
        file: the file, which can be sought in.
        expected: its size when it was written, if that is known.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(512)
    if not size:
        return "an empty file"
    if expected is not None and size < expected:
        return f"cut off at byte {size} of {expected}"
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _zip(file, size)
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return None  # a pickle, as torch wrote before it wrote archives
    if not head.strip(b"\0"):
        return "zeros, as a machine that lost power may leave a file"
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < size:
        return f"{SAFETENSORS}: weights alone, which leyden.load_weights() loads"
    if len(head) > 262 and head[257:262] == b"ustar":
        return None  # a tar archive: torch's oldest format
    if _is_text(head):
        return "JSON" if head.lstrip()[:1] in (b"{", b"[") else "text"
    return "of no known kind"


def _zip(file: IO[bytes], size: int) -> str | None:
    tail = min(size, 65557)
    file.seek(size - tail)
    end = file.read(tail)
    position = end.rfind(b"PK\x05\x06")
    if position < 0:
        # The directory at the end is missing; how long the whole was is written nowhere else.
        return f"cut off at byte {size}: its end is missing"
    file.seek(0)
    first = file.read(30)
    name = file.read(struct.unpack("<H", first[26:28])[0])
    if not name.endswith(_FIRST_PARTS):
        return "a zip archive of something else"
    return None


def _is_text(head: bytes) -> bool:
    try:
        head[:508].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(head), 508) - 4:
            return False
    return not any(byte < 9 or (13 < byte < 32 and byte != 27) for byte in head)
