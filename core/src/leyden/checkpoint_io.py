"""How a checkpoint is written and read, as one file."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from leyden.checkpoint.archive import check_sizes, why_unreadable
from leyden.checkpoint.checksum import DamagedCheckpoint, checksum, first_damage
from leyden.checkpoint.files import write_file
from leyden.checkpoint.manifest import Manifest
from leyden.checkpoint.sniff import SAFETENSORS, what_is
from leyden.component import Component
from leyden.messages import quoted, warn

StrPath = str | os.PathLike[str]


class CheckpointIO(Component):
    """``torch.save`` to a file, local or behind any URL that fsspec knows; subclasses override what differs.

    A local file is written under a temporary name in its own directory, flushed to the disk and then renamed, so that a
    name never stands for half a checkpoint. What is read is compared with the checksums in the file.
    """

    group = "leyden.checkpoint_io"
    kind = "checkpoint_io"
    name = "torch"

    on_failure: tuple[Callable[[BaseException, str], bool], ...] = ()
    """Each is asked, with the path, when a save that returned before the file was there has failed: True if it was whose save
    that was, and the run is to go on."""

    def save(self, checkpoint: dict[str, Any], path: StrPath) -> None:
        """Writes ``checkpoint``; called on rank 0 only, or on every process whose strategy says that it has a part of it.

        One that returns before the file is there copies what it needs first: ``checkpoint`` may change right afterwards.

        Raises:
            OSError: it could not be written; whatever stood under ``path`` before still does.
        """
        path = local_path(path)
        if "://" in path:
            _save_remote(checkpoint, path)
        else:
            write_file(Path(path), lambda file: torch.save(checkpoint, file), expected=size_of(checkpoint))

    def after_save(self, function: Callable[[], None]) -> None:
        """Calls ``function`` when everything saved so far is there, and not at all if that failed.

        Here that is at once. One that saves in the background calls it there, in the order in which it was given.
        """
        function()

    def wait(self) -> None:
        """Waits until everything saved is there or failed; for one that saves in the background."""

    def check(self) -> None:
        """Raises what a save that returned before the file was there has failed with, once, unless one of :attr:`on_failure`
        has the run go on.

        Raises:
            OSError: as a rule; whatever it was.
        """

    def load(self, path: StrPath, map_location: Any = "cpu") -> dict[str, Any]:
        """Reads a checkpoint; nothing named in the file is imported or run.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedCheckpoint: it is not, any more, what was written.
            ValueError: the file is not a checkpoint of plain data.
        """
        return _checkpoint(self.read(path, map_location), local_path(path))

    def read(self, path: StrPath, map_location: Any = "cpu") -> Any:
        """Reads what ``torch.save`` wrote, as :meth:`load`, whatever it holds."""
        path = local_path(path)
        if "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"there is no checkpoint {quoted(path)}{_whole_one_beside(path, self)}")
        with _opened(path) as file:
            kind = what_is(file, _expected_size(path))
            if kind is not None:
                raise DamagedCheckpoint(f"{quoted(path)} is not a checkpoint: it is {kind}{_whole_one_beside(path, self)}")
            check_sizes(file, path)
            with _verified(file, path) as damage:
                try:
                    file.seek(0)
                    checkpoint = torch.load(file, map_location=map_location, weights_only=True)
                except OSError as error:
                    raise OSError(error.errno, f"{quoted(path)} could not be read: {error.strerror or error}") from error
                except Exception as error:
                    found = damage()
                    if found:
                        raise DamagedCheckpoint(_damaged(path, found, self)) from error
                    raise ValueError(why_unreadable(file, path, error)) from error
            found = damage()
        if found:
            raise DamagedCheckpoint(_damaged(path, found, self))
        return checkpoint

    def checksum(self, path: StrPath) -> str:
        """A short text that is another one when the file is; must be cheap. Empty if there is none.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not whole.
        """
        with _opened(local_path(path)) as file:
            return checksum(file)

    def verify(self, path: StrPath) -> None:
        """Reads the file and compares it with its checksums.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedCheckpoint: it is not, any more, what was written; the message says what it is.
        """
        path = local_path(path)
        if "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"there is no checkpoint {quoted(path)}")
        with _opened(path) as file:
            kind = what_is(file, _expected_size(path))
            if kind is not None:
                raise DamagedCheckpoint(f"{quoted(path)} is not a checkpoint: it is {kind}")
            try:
                damage = first_damage(file) if _is_archive(file) else None
            except ValueError as error:
                raise DamagedCheckpoint(f"{quoted(path)} is not a checkpoint: it is {error}") from None
        if damage is not None:
            raise DamagedCheckpoint(_damaged(path, damage, None))

    def remove(self, path: StrPath) -> None:
        """Deletes a checkpoint; one that is gone already is no error."""
        path = local_path(path)
        if "://" in path:
            import fsspec  # only remote paths need it, and it takes its time

            filesystem, inner = fsspec.core.url_to_fs(path)
            if filesystem.exists(inner):
                filesystem.rm(inner)
        else:
            Path(path).unlink(missing_ok=True)

    def teardown(self) -> None:
        """Waits until everything saved is there; called at the end of every run.

        Raises:
            OSError: something could not be written and nobody was told yet.
        """


def is_state_dict(found: Any) -> bool:
    """Whether it is weights by name and nothing else."""
    if not isinstance(found, dict) or not found:
        return False
    return all(isinstance(value, Tensor) or str(name).endswith("_extra_state") for name, value in found.items())


def read_weights(path: StrPath, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint; or a file of weights alone, of safetensors or ``torch.save(model.state_dict())``, under ``"state_dict"``.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: it is of safetensors, which is not installed.
        DamagedCheckpoint: it is not, any more, what was written.
        ValueError: it holds no weights.
    """
    path, checkpoint_io = local_path(path), CheckpointIO()
    if "://" in path or Path(path).is_file():
        with _opened(path) as file:
            if (what_is(file) or "").startswith(SAFETENSORS):
                return {"state_dict": _read_safetensors(file, path, map_location)}
    found = checkpoint_io.read(path, map_location)
    return {"state_dict": found} if is_state_dict(found) else _checkpoint(found, path)


def _checkpoint(found: Any, path: str) -> dict[str, Any]:
    if not isinstance(found, dict) or "state_dict" not in found:
        hint = "; it is a state_dict alone, which leyden.load_weights() loads" if is_state_dict(found) else ""
        raise ValueError(f"{quoted(path)} is not a checkpoint: it holds no 'state_dict'{hint}")
    return found


def _read_safetensors(file: IO[bytes], path: str, map_location: Any) -> dict[str, Tensor]:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{quoted(path)} is a file of safetensors; to read it run: pip install safetensors") from error
    file.seek(0)
    try:
        found: dict[str, Tensor] = safetensors.torch.load(file.read())
    except Exception as error:
        raise DamagedCheckpoint(f"{quoted(path)} is a file of safetensors that cannot be read: {error}") from error
    return {name: value.to(map_location) for name, value in found.items()}


def local_path(path: StrPath) -> str:
    """``path`` as a str; that of a ``file://`` URL is local."""
    return os.fspath(path).removeprefix("file://")


def size_of(checkpoint: Any) -> int:
    """About how many bytes the file will have: its tensors, each storage once, and a little for the rest."""
    storages: dict[int, int] = {}
    rest = 4096

    def visit(value: Any) -> None:
        nonlocal rest
        if isinstance(value, Tensor):
            rest += 512
            if value.layout is torch.strided and value.device.type != "meta":
                storage = value.untyped_storage()
                storages[storage._cdata] = storage.nbytes()
            else:
                rest += value.numel() * value.element_size() if value.layout is torch.strided else 0
        elif isinstance(value, Mapping):
            rest += 16
            for key, item in value.items():
                visit(key)
                visit(item)
        elif isinstance(value, list | tuple):
            rest += 16
            for item in value:
                visit(item)
        else:
            rest += len(value) if isinstance(value, str | bytes) else 16

    visit(checkpoint)
    return rest + sum(storages.values())


def _save_remote(checkpoint: dict[str, Any], path: str) -> None:
    import fsspec  # see CheckpointIO.remove

    filesystem, inner = fsspec.core.url_to_fs(path)
    # Closing a remote file publishes what it holds, also when writing failed half-way: so not under the final name.
    temporary = f"{inner}.{os.getpid()}.leyden-tmp"
    try:
        filesystem.makedirs(inner.rpartition("/")[0], exist_ok=True)
        with filesystem.open(temporary, "wb") as remote:
            torch.save(checkpoint, cast("IO[bytes]", remote))
        if filesystem.exists(inner):
            filesystem.rm(inner)
        filesystem.mv(temporary, inner)
    except BaseException:
        if filesystem.exists(temporary):
            filesystem.rm(temporary)
        raise


def _opened(path: str) -> IO[bytes]:
    if "://" not in path:
        return Path(path).open("rb")
    import fsspec  # see CheckpointIO.remove

    filesystem, inner = fsspec.core.url_to_fs(path)
    try:
        return io.BytesIO(filesystem.cat_file(inner))  # read twice: to check it and to load it
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint {quoted(path)}") from None


def _is_archive(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(4) == b"PK\x03\x04"


@contextmanager
def _verified(file: IO[bytes], path: str) -> Iterator[Callable[[], str | None]]:
    """Compares an archive with its checksums while the caller reads it; what is given says what is wrong, once that is known."""
    if not _is_archive(file):
        yield lambda: None  # torch's older formats have no checksums
        return
    result: list[str | None] = [None]

    def compare() -> None:
        try:
            with _opened(path) if not isinstance(file, io.BytesIO) else io.BytesIO(file.getbuffer()) as own:
                result[0] = first_damage(own)
        except (ValueError, OSError) as error:
            result[0] = str(error)

    # Side by side with torch's reading it costs next to nothing where there is a second core.
    thread = threading.Thread(target=compare, name="leyden checksum")
    thread.start()

    def damage() -> str | None:
        thread.join()
        return result[0]

    try:
        yield damage
    finally:
        thread.join()


def _damaged(path: str, part: str, checkpoint_io: CheckpointIO | None) -> str:
    beside = _whole_one_beside(path, checkpoint_io) if checkpoint_io is not None else ""
    return f"{quoted(path)} is damaged: {part!r} in it is not what was written (its checksum differs){beside}"


def _expected_size(path: str) -> int | None:
    if "://" in path:
        return None
    entry = Manifest.read(Path(path).parent).find(Path(path).name)
    if entry is not None and entry.size and entry.checksum:
        return entry.size if Path(path).stat().st_size < entry.size and not _is_other(path, entry.checksum) else None
    return None


def _is_other(path: str, known: str) -> bool:
    """Whether the file is whole but another one than the list of its directory says."""
    try:
        with Path(path).open("rb") as file:
            found = checksum(file)
    except (OSError, ValueError):
        return False
    if found != known:
        warn(
            "LY018",
            f"{quoted(path)} is a checkpoint, but not the one that the list of its directory says was saved there",
        )
    return True


def _whole_one_beside(path: str, checkpoint_io: CheckpointIO) -> str:
    """``"; the newest whole one there: ..."``, or nothing if there is none."""
    if "://" in path:
        return ""
    manifest = Manifest.read(Path(path).parent)
    for entry in sorted(manifest.entries, key=lambda entry: entry.order, reverse=True):
        if entry.name == Path(path).name:
            continue
        try:
            checkpoint_io.verify(manifest.path(entry))
        except (OSError, ValueError):
            continue
        return f"; the newest whole one there: {str(manifest.path(entry))!r} (step {entry.step})"
    return ""
