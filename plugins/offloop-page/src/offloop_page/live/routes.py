"""Routes of the live page: a track, its frames, its video."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from offloop import SourceTooLarge
from offloop.asgi import announced_length, cancel_on_disconnect
from offloop_vips import Jpeg

from ..web.bodies import read_json
from ..web.problems import Problem
from .frame_socket import send_frames
from .loop_lag import LoopLag
from .tracks import Track, TrackStore
from .video_export import ExportState, VideoExport

__all__ = ["ROUTES", "Live", "can_show"]

_INVALID = 1008  # code of a closed WebSocket
_SLICE_NBYTES = 256 * 1024
_Side = Annotated[int, Meta(ge=64, le=1920)]


def can_show() -> bool:
    """Returns whether the plugin with the frames is installed."""
    return find_spec("offloop_visualizer") is not None


class Live:
    """What the requests of the live page share."""

    def __init__(self, max_tracks: int, age_s: float) -> None:
        self.tracks = TrackStore(max_tracks, age_s)
        self.lag = LoopLag()

    async def close(self) -> None:
        """Drop all tracks, and wait for the exports to end."""
        for export in self.tracks.drop_all():
            await export.ended()


class Picture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size, rate and colours of the frames."""

    width: _Side = 960
    height: _Side = 540
    fps: Annotated[float, Meta(ge=1, le=60)] = 30.0
    start_s: Annotated[float, Meta(ge=0)] = 0.0
    seconds: Annotated[float, Meta(gt=0)] | None = None
    palette: Literal["aurora", "ember", "ocean"] = "aurora"

    def operation(self, pace: Literal["free", "live"]) -> Any:
        """Returns the operation that makes the frames."""
        from offloop_visualizer import Visualize  # noqa: PLC0415 (because the extra is optional)

        return Visualize(**msgspec.structs.asdict(self), pace=pace)


async def add(request: Request) -> Response:
    """Receive a WAV file."""
    page = request.app.state.page
    if not can_show():
        raise Problem(409, "no_live", "This server has no live page.", 'Install "offloop-page[live]" on it.')
    limit, length = page.settings.max_track_bytes, announced_length(request)
    if length > limit:
        raise SourceTooLarge(length, limit)
    idle_s, total_s = page.settings.upload_idle_s, page.settings.upload_s
    async with cancel_on_disconnect(request, idle_timeout=idle_s, total_timeout=total_s):
        buffer = await page.converter.receive(request.stream(), limit, length)
    track = page.live.tracks.add(buffer)
    return JSONResponse({"id": track.track_id, "nbytes": len(track.data)}, 201)


async def delete(request: Request) -> Response:
    request.app.state.page.live.tracks.drop(_track_of(request))
    return Response(status_code=204)


async def frames(websocket: WebSocket) -> None:
    """The frames of a track, each at its time."""
    await websocket.accept()
    page = websocket.app.state.page
    try:
        track = _track_of(websocket)
        picture = msgspec.convert(dict(websocket.query_params), Picture, strict=False)
    except (Problem, msgspec.ValidationError) as error:
        await websocket.close(_INVALID, str(error)[:100])
        return
    await send_frames(websocket, page.pool, track.data, [picture.operation("live"), Jpeg(quality=80)], page.live.lag)


async def export(request: Request) -> Response:
    """Begin to make a video of a track. A second call stops the first video."""
    page, track = request.app.state.page, _track_of(request)
    picture: Picture = await read_json(request, Picture)
    if track.video is not None:
        track.video.cancel()
        await track.video.ended()
    track.video = VideoExport(page.pool, track.data, picture.operation("free"))
    return JSONResponse(track.video.to_dict(), 202)


async def read_export(request: Request) -> Response:
    return JSONResponse(_video_of(request).to_dict(), headers={"cache-control": "no-store"})


async def cancel_export(request: Request) -> Response:
    video = _video_of(request)
    video.cancel()
    await video.ended()
    return JSONResponse(video.to_dict())


async def download_export(request: Request) -> Response:
    video = _video_of(request)
    if video.state is not ExportState.DONE:
        raise Problem(409, "no_video", "The video is not done.", "Wait until its state is done.")
    headers = {"content-disposition": 'attachment; filename="video.mp4"', "cache-control": "no-store"}
    return StreamingResponse(_slices(video), 200, headers, "video/mp4")


def _slices(video: VideoExport) -> Iterator[bytes]:
    position = 0
    while data := video.read(position, _SLICE_NBYTES):
        position += len(data)
        yield data


def _track_of(connection: HTTPConnection) -> Track:
    track = connection.app.state.page.live.tracks.find(connection.path_params["track_id"])
    if track is None:
        raise Problem(404, "no_track", "There is no such track, or it was dropped after a time.", "Choose the file again.")
    return track


def _video_of(request: Request) -> VideoExport:
    video = _track_of(request).video
    if video is None:
        raise Problem(404, "no_video", "No video of this track was asked for.", "Begin one by POST.")
    return video


_TRACK = "/api/tracks/{track_id}"

ROUTES = [
    Route("/api/tracks", add, methods=["POST"]),
    Route(_TRACK, delete, methods=["DELETE"]),
    WebSocketRoute(f"{_TRACK}/frames", frames),
    Route(f"{_TRACK}/video", export, methods=["POST"]),
    Route(f"{_TRACK}/video", read_export, methods=["GET"]),
    Route(f"{_TRACK}/video", cancel_export, methods=["DELETE"]),
    Route(f"{_TRACK}/video/file", download_export, methods=["GET"]),
]
