"""A web page on offloop: drop a folder of pictures, watch the work, compare, download, upload to storage.

`make_app(pool)` is an ASGI application to run or to mount; `offloop page` serves it.

    settings         limits, token, storage: what an operator configures
    application      the routes, the lifespan, and the state that all requests share
    command          the command `offloop page`

    batches/         files of a client and their states; conversion in the pool; limits and expiry
    web/             HTTP: security, problems, routes, event stream, ZIP archive
    storage/         uploads to S3, GCS, Azure
    live/            frames of a visualizer over a WebSocket, and their export as a video
    static/          the page: HTML, CSS and ES modules, served as they are
"""

from .application import make_app
from .settings import PageSettings

__all__ = ["PageSettings", "make_app"]
