"""A model from the Hugging Face Hub: `HF_ENDPOINT`, tokens and proxies as huggingface_hub has them.

huggingface_hub 2 no longer resumes a download of an earlier run, so the parts are kept here, under
the hash that the hub gives for the file, and its own transfer function goes on from there.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from understudy.errors import ModelFileError
from understudy.model_files.catalogue import HubFile
from understudy.model_files.transfer import (
    Progress,
    check_hash,
    check_room,
    disk_refusal,
    move_into_place,
    sha256_of,
)

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

_HASH_CHARS = 64


def fetch_from_hub(file: HubFile, place: Path, partial: Path, progress: Progress) -> str:
    """Download a file, or the rest of it, to `place`; returns its SHA-256.

    Raises ModelFileError. What came before the network failed stays in `partial` for the next try.
    """
    hub = _Hub(file)
    metadata = hub.look_up()
    expected, size = metadata.etag, metadata.size
    if expected is None or len(expected) != _HASH_CHARS or size is None:
        raise ModelFileError(f"The hub gives no SHA-256 for {file}: it is not a large file.")
    part = partial / f"{expected}.part"
    done = part.stat().st_size if part.is_file() else 0
    if done > size:
        part.unlink()
        done = 0
    check_room(partial, size - done)
    progress.begin(place.name, size, done)
    try:
        hub.transfer(metadata, part, done, progress)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_refusal(error, partial.parent) from None
    found = sha256_of(part, progress)
    if found != expected:
        part.unlink()
    check_hash(place.name, found, expected)
    move_into_place(part, place)
    return found


class _Hub:
    """The calls of huggingface_hub for one file, with its many errors made into ours."""

    def __init__(self, file: HubFile) -> None:
        try:
            import huggingface_hub
        except ModuleNotFoundError:
            raise ModelFileError(
                "Models from the hub need huggingface_hub: install understudy with [builtin]."
            ) from None
        from huggingface_hub.utils.logging import set_verbosity

        # Its warnings, one per interrupted connection, would tear the progress bar apart.
        set_verbosity(logging.ERROR)
        self._library = huggingface_hub
        self._file = file
        self._url = huggingface_hub.hf_hub_url(file.repository, file.path)

    def look_up(self) -> "HfFileMetadata":
        """Size, hash and address of the file."""
        from huggingface_hub import errors

        repository, path = self._file.repository, self._file.path
        try:
            return self._library.get_hf_file_metadata(self._url)
        except errors.GatedRepoError:
            problem = (
                f"{repository} wants its terms accepted first: accept them on its page on the hub, "
                "then set HF_TOKEN (or run `hf auth login`)."
            )
        except errors.RepositoryNotFoundError:
            problem = (
                f"The hub has no repository {repository}, or it is private: check the name, or set "
                "HF_TOKEN."
            )
        except errors.EntryNotFoundError:
            problem = f"{repository} has no file {path}."
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            problem = f"The hub answered with HTTP {status} for {self._file}: try again later."
        except (self._network_error(), OSError) as error:
            problem = f"The hub cannot be reached ({type(error).__name__}): check the network."
        raise ModelFileError(problem)

    def transfer(
        self, metadata: "HfFileMetadata", part: Path, done: int, progress: Progress
    ) -> None:
        """Append what is missing to `part`. Raises OSError of the disk as it is."""
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        # The file may lie on another host, which must not see the token.
        same_host = urlsplit(metadata.location).netloc == urlsplit(self._url).netloc
        headers = build_hf_headers(token=None if same_host else False)
        with part.open("ab") as target:
            try:
                http_get(
                    metadata.location,
                    target,
                    resume_size=done,
                    headers=headers,
                    expected_size=metadata.size,
                    tqdm_class=_bar(progress),
                )
            except HfHubHTTPError as error:
                reason = f"HTTP {error.response.status_code}"
            except self._network_error() as error:
                reason = type(error).__name__
            except OSError as error:
                if error.errno is not None:
                    raise
                reason = "the connection ended early"
            else:
                return
        raise ModelFileError(
            f"The download of {self._file} broke off ({reason}): run the command again to go on."
        )

    @staticmethod
    def _network_error() -> type[Exception]:
        import httpx2

        return httpx2.HTTPError


def _bar(progress: Progress) -> type:
    """The part of a tqdm bar that huggingface_hub uses."""

    class Bar:
        def __init__(self, **_: object) -> None:
            """Total and name are shown by `progress` already."""

        def update(self, count: int) -> None:
            progress.advance(count)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

    return Bar
