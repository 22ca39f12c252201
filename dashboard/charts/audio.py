"""A recording as two small Plotly figures, loudness and pitch over time; at most some 25 kB
whatever its length.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

COLUMNS = 600  # points of the waveform, each a minimum and a maximum
FRAMES = 320  # columns of the spectrogram
BANDS = 64  # rows of the spectrogram
WINDOW = 512  # samples per spectrum: 32 ms at 16 kHz
LOOKS = 4  # spectra averaged per column, spread over it, so that an hour costs what a second does
FLOOR_DB = 70.0  # what lies further below the loudest point is drawn as silence
BLUE = "#0072b2"  # Okabe-Ito, readable on white and on black
WAVE_SENTENCE = "Loudness over time: each burst is a word or a few, flat parts are silence."
SPECTROGRAM_SENTENCE = (
    "Pitch over time: bright bands are speech; bright everywhere, also between words, is "
    "background noise."
)


def envelope(samples: np.ndarray, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of each of at most `columns` equal stretches of samples [N]."""
    columns = max(1, min(columns, len(samples)))
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    return np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)


def spectrogram(samples: np.ndarray, rate: int = 16000) -> tuple[np.ndarray, np.ndarray]:
    """Energy in dB below the loudest point, float [BANDS, columns], and the bands' centers in Hz
    (mel-spaced).
    """
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    last = len(samples) - WINDOW
    columns = max(1, min(FRAMES, last // 160 + 1))
    centers = (np.arange(columns * LOOKS) + 0.5) / (columns * LOOKS) * last
    frames = samples[centers.astype(int)[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = (
        (np.abs(np.fft.rfft(frames, axis=1)) ** 2).reshape(columns, LOOKS, -1).mean(1)
    )  # [columns, WINDOW/2+1]
    low, high = (2595 * np.log10(1 + f / 700) for f in (60.0, rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 1) / 2595) - 1)
    centers_hz = (edges[1:] + edges[:-1]) / 2
    # narrow low bands fall between two spectral lines, so bands are read by interpolation and not
    # summed
    lines = np.fft.rfftfreq(WINDOW, 1 / rate)
    bands = np.stack([np.interp(centers_hz, lines, row) for row in power], axis=1)
    level = 10 * np.log10(bands + 1e-10)
    return level - level.max(), centers_hz


def wave_figure(samples: np.ndarray, rate: int = 16000) -> go.Figure:
    """Waveform of samples [N] in -1..1."""
    low, high = envelope(samples)
    time = (np.arange(len(low)) * len(samples) / len(low) / rate).round(3).astype(np.float32)
    figure = go.Figure(
        go.Scatter(
            x=np.concatenate([time, time[::-1]]),
            y=np.concatenate([high, low[::-1]]).astype(np.float32).round(4),
            fill="toself",
            mode="lines",
            line={"width": 0.5, "color": BLUE},
            fillcolor=BLUE,
            hoverinfo="skip",
        )
    )
    figure.update_yaxes(
        visible=False, automargin=False, range=[-1.02 * _peak(samples), 1.02 * _peak(samples)]
    )
    return _finish(figure, 110, "seconds", len(samples) / rate)


def spectrogram_figure(samples: np.ndarray, rate: int = 16000) -> go.Figure:
    """Mel-spaced spectrogram of samples [N]; levels are sent as whole bytes."""
    level, hertz = spectrogram(samples, rate)
    step = len(samples) / rate / level.shape[1]
    figure = go.Figure(
        go.Heatmap(
            z=np.clip(level + FLOOR_DB, 0, 255).round().astype(np.uint8),
            x0=step / 2,
            dx=step,
            y=np.arange(BANDS),
            colorscale="Cividis",
            showscale=False,
            hovertemplate="%{x:.2f} s<extra></extra>",
        )
    )
    ticks = [int(np.argmin(np.abs(hertz - f))) for f in (250, 1000, 3000, 6000)]
    figure.update_yaxes(
        tickvals=ticks,
        ticktext=["250", "1000", "3000", "6000"],
        title="Hz",
        automargin=False,
        fixedrange=True,
    )
    return _finish(figure, 190, "seconds", len(samples) / rate)


def _peak(samples: np.ndarray) -> float:
    return max(float(np.abs(samples).max()), 1e-3)


def _finish(figure: go.Figure, height: int, title: str, seconds: float) -> go.Figure:
    figure.update_layout(
        height=height, margin={"l": 64, "r": 10, "t": 8, "b": 36}, showlegend=False
    )
    figure.update_xaxes(title=title, range=[0, seconds], fixedrange=True, showgrid=False)
    return figure
