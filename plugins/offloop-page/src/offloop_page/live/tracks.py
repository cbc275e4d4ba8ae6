"""WAV files of the live page, in the pool's shared memory."""

from __future__ import annotations

import asyncio
import secrets

from offloop import Buffer

from .video_export import VideoExport

__all__ = ["Track", "TrackStore"]

_ID_BYTES = 16


class Track:
    """A WAV file. Its memory is returned to the pool when it was dropped and the last stream of it has ended."""

    def __init__(self, track_id: str, buffer: Buffer, now: float) -> None:
        self.track_id = track_id
        self.data: memoryview = buffer.view
        self.used_at = now  # time of the last use, on the clock of the loop
        self.video: VideoExport | None = None  # None: no export was asked for


class TrackStore:
    """The WAV files by id. One that was not used for `age_s` is dropped, or earlier if there are too many."""

    def __init__(self, max_tracks: int, age_s: float) -> None:
        self._max_tracks = max_tracks
        self._age_s = age_s
        self._tracks: dict[str, Track] = {}  # the last one that was used is the last entry

    def add(self, buffer: Buffer) -> Track:
        """Keep a file."""
        while len(self._tracks) >= self._max_tracks:
            self.drop(next(iter(self._tracks.values())))
        loop = asyncio.get_running_loop()
        track = Track(secrets.token_urlsafe(_ID_BYTES), buffer, loop.time())
        self._tracks[track.track_id] = track
        loop.call_later(self._age_s, self._expire, track)
        return track

    def find(self, track_id: str) -> Track | None:
        """Returns the file; None if there is none, or it was dropped."""
        track = self._tracks.pop(track_id, None)
        if track is not None:
            self._tracks[track_id] = track
            track.used_at = asyncio.get_running_loop().time()
        return track

    def drop(self, track: Track) -> None:
        """Forget a file and its video."""
        self._tracks.pop(track.track_id, None)
        if track.video is not None:
            track.video.cancel()

    def drop_all(self) -> list[VideoExport]:
        """Forget all files. Returns the exports that may still run."""
        exports = [track.video for track in self._tracks.values() if track.video is not None]
        for track in list(self._tracks.values()):
            self.drop(track)
        return exports

    def _expire(self, track: Track) -> None:
        loop = asyncio.get_running_loop()
        left_s = track.used_at + self._age_s - loop.time()
        if left_s > 0:
            loop.call_later(left_s, self._expire, track)
        else:
            self.drop(track)
