"""Settings of the page: limits, the access token, the storage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

__all__ = ["PREFIX", "PageSettings", "options_from", "settings_from"]

PREFIX = "OFFLOOP_PAGE_"

_Count = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(gt=0)]

_GIB = 1 << 30


class PageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator configures. Each field can be set by an environment variable, such as OFFLOOP_PAGE_MAX_FILES."""

    max_file_bytes: _Count = 200_000_000
    """Maximum length of one uploaded file in bytes."""

    max_files: _Count = 2_000
    """Maximum number of files in a batch."""

    max_batch_bytes: _Count = 20 * _GIB
    """Maximum length of all files of a batch together, in bytes, before their conversion."""

    max_batches: _Count = 1_000
    """Maximum number of batches of all clients."""

    max_batches_per_client: _Count = 50
    """Maximum number of batches of one client address."""

    max_uploads_per_client: _Count = 8
    """Maximum number of files that one client address may send at a time. The page sends four."""

    max_result_bytes: _Count = _GIB
    """Maximum length of all results that the server keeps, in bytes of the pool's shared memory."""

    batch_age_s: _Seconds = 3600.0
    """Seconds after the last change of a batch, at which it and its results are dropped."""

    upload_idle_s: _Seconds = 30.0
    """Seconds without a byte, after which an upload is ended."""

    upload_s: _Seconds = 900.0
    """Maximum duration of an upload in seconds."""

    event_stream_s: _Seconds = 15.0
    """Seconds after which an event stream ends and the browser continues it, because some servers wait for open streams
    before they stop."""

    token: str = ""
    """Token that the API requires. Empty: it requires none."""

    allowed_hosts: tuple[str, ...] = ()
    """Accepted names in the Host header, without a port. Empty: all."""

    storage: str = ""
    """Address of the storage for uploads: "s3://bucket/prefix", "gs://...", "az://...". Empty: there is no upload."""

    storage_options: dict[str, str] = {}
    """Options of the storage: endpoint, region, credentials. Others come from the environment, such as AWS_ACCESS_KEY_ID."""

    max_track_bytes: _Count = 200_000_000
    """Maximum length of a WAV file of the live page in bytes."""

    max_tracks: _Count = 10
    """Maximum number of WAV files that the server keeps for the live page."""


def settings_from(given: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> PageSettings:
    """Returns the settings of the environment, and those that are given instead.

    Raises:
        ValueError: a value is out of its range, or cannot be read. The message names the setting.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(PageSettings):
        text = environment.get(PREFIX + field.name.upper())
        if text is not None:
            values[field.name] = _parsed(field.name, text)
    values |= given or {}
    try:
        return msgspec.convert(values, PageSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"the settings of the page: {error}") from None


def _parsed(name: str, text: str) -> Any:
    """Lists are separated by commas, and options are key=value pairs."""
    if name == "allowed_hosts":
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "storage_options":
        return options_from(part.strip() for part in text.split(",") if part.strip())
    return text


def options_from(pairs: Iterable[str]) -> dict[str, str]:
    """Returns "key=value" texts as a dict."""
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
