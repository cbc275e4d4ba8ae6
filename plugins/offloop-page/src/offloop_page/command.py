"""The command `offloop page`: serves the page."""

from __future__ import annotations

import ipaddress
import secrets
from typing import Any

import click

from .settings import PREFIX, PageSettings, options_from, settings_from

__all__ = ["page"]

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_GRACE_S = 5  # seconds for open requests after Ctrl-C
_TOKEN_BYTES = 18


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, envvar=f"{PREFIX}HOST", help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, envvar=f"{PREFIX}PORT", type=click.IntRange(0, 65535), help="Port.")
@click.option("--workers", type=click.IntRange(1), envvar=f"{PREFIX}WORKERS", help="Pictures at once. Default: the CPUs.")
@click.option("--memory-limit", envvar=f"{PREFIX}MEMORY_LIMIT", help='Memory of the pool, such as "2GiB". Default: half.')
@click.option(
    "--token",
    help="Token that the API requires. Default: none on a loopback address, else a random one, which is printed.",
)
@click.option("--storage", help='Storage for uploads, such as "s3://bucket/folder". Its credentials come from the environment.')
@click.option(
    "--storage-option", "storage_options", multiple=True, metavar="KEY=VALUE", help="Option of the storage: endpoint, region."
)
@click.option("--max-file-bytes", type=int, help="Maximum length of a file.")
@click.option("--max-files", type=int, help="Maximum number of files in a batch.")
@click.option("--max-result-bytes", type=int, help="Maximum length of all results that are kept.")
@click.option("--batch-age-s", type=float, help="Seconds after which an unchanged batch is dropped.")
def page(host: str, port: int, workers: int | None, memory_limit: str | None, **given: Any) -> None:
    """Serve a page: drop a folder of pictures, watch, compare, download.

    Every setting can be given in the environment, too: OFFLOOP_PAGE_ and its name in capitals, such as OFFLOOP_PAGE_MAX_FILES.
    """
    settings = _settings(host, given)
    _serve(host, port, settings, {"workers": workers, "memory_limit": memory_limit})


def _settings(host: str, given: dict[str, Any]) -> PageSettings:
    values = {name: value for name, value in given.items() if value not in (None, ())}
    if "storage_options" in values:
        values["storage_options"] = options_from(values["storage_options"])
    try:
        settings = settings_from(values)
        if not settings.allowed_hosts and _is_loopback(host):
            return settings_from({**values, "allowed_hosts": (*_LOOPBACK_NAMES, host)})
        if not settings.token and not _is_loopback(host):
            return settings_from({**values, "token": secrets.token_urlsafe(_TOKEN_BYTES)})
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return settings


def _serve(host: str, port: int, settings: PageSettings, options: dict[str, Any]) -> None:
    import uvicorn  # noqa: PLC0415 (because `offloop --help` loads this module)

    from .application import make_app  # noqa: PLC0415

    try:
        app = make_app(settings=settings, pool_options={name: value for name, value in options.items() if value is not None})
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        ws_per_message_deflate=False,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            for number in sorted({socket.getsockname()[1] for server in self.servers for socket in server.sockets}):
                click.echo(_address(host, number, settings.token))

    Server(config).run()


def _address(host: str, port: int, token: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"#token={token}" if token else "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
