"""Write a little song to try the visualizer with: python demo_song.py song.wav

Twenty-four seconds at 126 beats per minute: drums, a bass, chords and a melody, all synthesized here, so that no file of
another author is needed.
"""

import sys
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 44_100
BPM = 126.0
BEATS = 50
CHORDS = ((57, 60, 64, 67), (53, 57, 60, 64), (48, 55, 60, 64), (55, 59, 62, 69))  # notes of Am7, F, C, G

Samples = npt.NDArray[np.float64]


def hertz(note: float) -> float:
    return 440 * 2 ** ((note - 69) / 12)


def seconds(duration: float) -> Samples:
    return np.arange(round(duration * RATE)) / RATE


def kick() -> Samples:
    at = seconds(0.35)
    return np.sin(2 * np.pi * (48 * at + 9 * (1 - np.exp(-at / 0.03)))) * np.exp(-at / 0.12)


def snare(random: np.random.Generator) -> Samples:
    at = seconds(0.22)
    return (0.7 * random.normal(0, 0.5, at.size) + 0.4 * np.sin(2 * np.pi * 185 * at)) * np.exp(-at / 0.06)


def hat(random: np.random.Generator) -> Samples:
    at = seconds(0.06)
    return np.diff(random.normal(0, 0.5, at.size + 1)) * np.exp(-at / 0.015)


def pluck(note: float, duration: float, brightness: float) -> Samples:
    at = seconds(duration)
    tones = [np.sin(2 * np.pi * hertz(note) * n * at) * np.exp(-at * n / brightness) / n for n in range(1, 9)]
    return np.sum(tones, axis=0) * np.exp(-at / (0.4 * duration)) * np.minimum(at / 0.004, 1)


def song() -> Samples:
    random = np.random.default_rng(5)
    mix = np.zeros((round((BEATS * 60 / BPM + 0.5) * RATE), 2))

    def add(beat: float, sound: Samples, loudness: float, place: float = 0.0) -> None:
        """Add a sound at a beat. Its place is -1 for left, 0 for the middle and 1 for right."""
        start = round(beat * 60 / BPM * RATE)
        part = mix[start : start + sound.size]
        part += sound[: len(part), None] * loudness * np.array((1 - place, 1 + place)) / 2

    for beat in range(BEATS):
        chord = CHORDS[beat // 4 % 4]
        add(beat, kick(), 1.0)
        if beat >= 8 and beat % 2:
            add(beat, snare(random), 0.6)
        for half in range(4):
            add(beat + half / 4, hat(random), 0.30 if half == 2 else 0.12, 0.4)
        add(beat + 0.5, pluck(chord[0] - 24, 0.4, 0.5), 0.9)
        if beat % 4 == 0:
            for number, note in enumerate(chord):
                add(beat, pluck(note, 1.8, 0.6), 0.22, -0.6 + 0.4 * number)
        if beat >= 16:
            for step in range(2):
                note = chord[(3 * beat + 2 * step) % 4] + 12 * (1 + (beat + step) % 2)
                add(beat + step / 2, pluck(note, 0.5, 0.9), 0.28, 0.5 - step)
    return np.tanh(1.1 * mix)


def main(destination: str) -> None:
    samples = (song() * 32_000).astype("<i2")
    with wave.open(str(Path(destination)), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    print(f"{destination}: {len(samples) / RATE:.1f} s at {BPM:g} beats per minute")


if __name__ == "__main__":
    main(sys.argv[1])
