"""Thumbnails over HTTP: the picture goes from the socket into shared memory, and the thumbnail back from there.

uvicorn server:app
curl --data-binary @photo.jpg 'http://127.0.0.1:8000/thumbnail?width=320&format=webp' > thumbnail.webp
curl --form file=@photo.jpg 'http://127.0.0.1:8000/thumbnail?width=320' > thumbnail.jpg
"""

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from offloop import InvalidTask, Operation
from offloop.asgi import (
    EXCEPTION_HANDLERS,
    ResultResponse,
    health,
    pool_lifespan,
    pool_of,
    receive,
    run_until_disconnect,
)
from offloop_vips import Auto, Avif, Jpeg, Png, Resize, Webp

MAX_SOURCE_BYTES = 50_000_000
ENCODERS = {"webp": Webp, "jpeg": Jpeg, "png": Png, "avif": Avif}


class Wish(msgspec.Struct):
    """What the query asks for."""

    width: int | None = None
    height: int | None = None
    format: str = "auto"

    def pipeline(self, accept: str) -> list[Operation]:
        if self.format != "auto" and self.format not in ENCODERS:
            raise InvalidTask(f"format={self.format!r}: one of auto, {', '.join(ENCODERS)}")
        encoder = Auto(accept=accept) if self.format == "auto" else ENCODERS[self.format]()
        return [Resize(self.width, self.height, fit="inside"), encoder]


async def thumbnail(request: Request) -> Response:
    try:
        wish = msgspec.convert(dict(request.query_params), Wish, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidTask(str(error)) from None
    pool, pipeline = pool_of(request), wish.pipeline(request.headers.get("accept", "*/*"))
    source = await receive(pool, request, max_bytes=MAX_SOURCE_BYTES)
    result = await run_until_disconnect(request, pool.run(source, pipeline))
    return ResultResponse(result, headers={"vary": "accept"})


def make_app(**settings: Any) -> Starlette:
    """The application, whose pool has these settings, unless the environment has others: OFFLOOP_WORKERS=4."""
    routes = [Route("/thumbnail", thumbnail, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=pool_lifespan(**settings), exception_handlers=EXCEPTION_HANDLERS)


app = make_app(timeout=10, max_queue=100)
