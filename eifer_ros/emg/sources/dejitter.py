"""Even sample times from uneven stamps, with gaps told apart from lateness.

A stream of samples taken evenly arrives with stamps that jitter (bursts, scheduling, a clock read at push
time). The time of sample k is a straight line in k: first stamp + k / nominal rate + offset + drift * t.
Offset and drift follow by least squares with exponential forgetting, as liblsl's own post-processing and
pyxdf do, so that live and recorded times agree.

Unlike those, samples that are missing are counted: when stamps run ahead of the line and stay ahead, the line
goes on and the sample counter jumps. A burst that was only late falls back onto the line and changes nothing.
To tell the two apart the samples after a jump are held until the stamps have advanced by `hold_s`; a normal
stream is never held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...types import F32, F64


@dataclass(frozen=True)
class Run:
    """Consecutive samples with corrected times.

    first_s: time of the first sample. step_s: time between samples. lost: samples missing before the run.
    jumped: the clock of the stream was set anew before the run, so its times do not continue the earlier
    ones.
    """

    samples: F32
    raw: F64
    first_s: float
    step_s: float
    lost: int = 0
    jumped: bool = False


class Dejitter:
    """Regression of stamps on the sample counter.

    rate_hz: nominal rate. half_life_s: age at which a stamp counts half (liblsl's default is 90 s).
    prior_drift: spread of clock drift expected before there is data. floor_s: jumps below this are never
    taken for a gap. hold_s: how far stamps must advance after a jump before it is believed.
    """

    def __init__(
        self,
        rate_hz: float,
        half_life_s: float = 90.0,
        prior_drift: float = 2e-4,
        floor_s: float = 2e-3,
        hold_s: float = 0.25,
    ) -> None:
        self.rate_hz = rate_hz
        self._decay = np.log(2.0) / (half_life_s * rate_hz)
        self._prior_drift = prior_drift
        self._floor_s = floor_s
        self._hold_s = hold_s
        self.jumps = 0
        self._last_s = -np.inf
        self._held: tuple[F32, F64, F64, F64] | None = None
        self._arrived_s: float | None = None
        self._restart()

    def _restart(self) -> None:
        self._origin: float | None = None  # stamp of sample 0 of the line
        self._next = 0  # counter of the next sample
        self._x0 = 0.0  # where the sums are centred, s
        self._w = 0.0
        self._sx = 0.0
        self._sr = 0.0
        self._sxx = 0.0
        self._sxr = 0.0
        self._blocks = 0.0
        self._sample_count = 0
        self._square = 0.0
        self._square_w = 0.0

    @property
    def jitter_s(self) -> float:
        """Root mean square distance of recent stamps from the line, s."""
        return float(np.sqrt(self._square / self._square_w)) if self._square_w > 0 else 0.0

    @property
    def drift(self) -> float:
        """How much longer a sample lasts than the nominal rate says, as a fraction (1e-6 = 1 ppm)."""
        return float(self._line()[1])

    def _line(self) -> tuple[float, float]:
        """(offset at x0, drift) of the residual line; ridge towards zero drift so that the first seconds are
        calm.
        """
        if self._w <= 0:
            return 0.0, 0.0
        sd = max(self.jitter_s, 1e-4)
        # neighbouring samples of one burst share one error: only whole blocks are independent evidence
        ridge = (sd / self._prior_drift) ** 2 * self._w / max(self._blocks, 1.0)
        spread = max(self._sxx - self._sx**2 / self._w, 0.0)
        drift = (self._sxr - self._sx * self._sr / self._w) / (spread + ridge)
        return (self._sr - drift * self._sx) / self._w, drift

    def _threshold(self) -> float:
        if self._sample_count < self.rate_hz:  # the first second knows little of the jitter
            return max(0.1, 8 * self.jitter_s)
        return max(self._floor_s, 1.5 / self.rate_hz, 8 * self.jitter_s)

    def _predict(self, count: int) -> F64:
        assert self._origin is not None
        offset, drift = self._line()
        x = (self._next + np.arange(count)) / self.rate_hz
        return np.asarray(self._origin + x + offset + drift * (x - self._x0), np.float64)

    def _learn(self, stamps: F64) -> None:
        """Put the next `len(stamps)` samples on the line and forget a little of the past."""
        count = len(stamps)
        assert self._origin is not None
        x = (self._next + np.arange(count)) / self.rate_hz
        residual = stamps - self._predict(count)
        keep = float(np.exp(-self._decay * count))
        shift = x[-1] - self._x0
        self._sxx += shift * (shift * self._w - 2 * self._sx)
        self._sxr -= shift * self._sr
        self._sx -= shift * self._w
        self._x0 = float(x[-1])
        r = stamps - self._origin - x
        u = x - self._x0
        self._w = keep * self._w + count
        self._sx = keep * self._sx + float(u.sum())
        self._sr = keep * self._sr + float(r.sum())
        self._sxx = keep * self._sxx + float(u @ u)
        self._sxr = keep * self._sxr + float(u @ r)
        self._blocks = keep * self._blocks + 1.0
        if self._sample_count:
            forget = float(np.exp(-count / (5.0 * self.rate_hz)))
            self._square = forget * self._square + float(residual @ residual)
            self._square_w = forget * self._square_w + count
        self._sample_count += count

    def add(
        self, samples: F32, stamps: F64, arrived_s: float | None = None, raw: F64 | None = None
    ) -> list[Run]:
        """Runs that are ready after these (N, C) samples with (N,) stamps in seconds.

        raw: (N,) stamps as the source gave them, carried along untouched; the stamps themselves by default.

        arrived_s: when the block came, on any steady clock. With it, stamps that leap although samples kept
        coming are known as a clock that was set, not as a gap.
        """
        silence = None if arrived_s is None or self._arrived_s is None else arrived_s - self._arrived_s
        self._arrived_s = arrived_s if arrived_s is not None else self._arrived_s
        silent = np.full(len(stamps), 0.0 if silence is None else silence)
        if silence is None:
            silent[:] = np.nan
        stamps = np.asarray(stamps, np.float64)
        raw = stamps if raw is None else np.asarray(raw, np.float64)
        if self._held is not None:
            samples = np.concatenate((self._held[0], samples))
            stamps = np.concatenate((self._held[1], stamps))
            raw = np.concatenate((self._held[2], raw))
            silent = np.concatenate((self._held[3], silent))
            self._held = None
        return self._take(samples, stamps, raw, silent, final=False)

    def flush(self) -> list[Run]:
        """Decide on what is held, with what is known now: the stream has gone quiet."""
        if self._held is None:
            return []
        held = self._held
        self._held = None
        return self._take(*held, final=True)

    def _take(self, samples: F32, stamps: F64, raw: F64, silent: F64, final: bool) -> list[Run]:
        runs: list[Run] = []
        lost = 0
        jumped = False
        while len(stamps):
            if self._origin is None:
                self._origin = float(stamps[0])
            residual = stamps - self._predict(len(stamps))
            limit = self._threshold()
            away = np.abs(residual) > limit
            good = int(np.argmax(away)) if away.any() else len(stamps)
            if good:
                runs.append(self._run(samples[:good], stamps[:good], raw[:good], lost, jumped, learn=True))
                lost = 0
                jumped = False
                samples = samples[good:]
                stamps = stamps[good:]
                raw = raw[good:]
                silent = silent[good:]
                continue
            calm = np.abs(residual) <= limit / 2
            if (
                calm.any()
            ):  # back on the line: these were late, not missing; they teach nothing about the clock
                back = int(np.argmax(calm))
                runs.append(self._run(samples[:back], stamps[:back], raw[:back], lost, jumped, learn=False))
                lost = 0
                jumped = False
                samples = samples[back:]
                stamps = stamps[back:]
                raw = raw[back:]
                silent = silent[back:]
                continue
            if (
                not final
                and stamps[-1] - stamps[0] < self._hold_s
                and len(stamps) < 20 * max(self._hold_s * self.rate_hz, 1)
            ):
                self._held = (samples, stamps, raw, silent)
                break
            gap = float(np.median(residual))
            came_on = bool(np.isfinite(silent[0]) and silent[0] < 0.5 * gap - 0.5)
            if gap > 0 and not came_on:
                lost = max(1, round(gap * self.rate_hz))
                self._next += lost
            else:
                self.jumps += 1
                self._restart()
                self._last_s = -np.inf
                lost = 0
                jumped = True
                continue
            if abs(float(stamps[0] - self._predict(1)[0])) > self._threshold():
                # the first stamp after the gap is itself an outlier; the count is believed, so the loop must
                # go on
                runs.append(self._run(samples[:1], stamps[:1], raw[:1], lost, jumped, learn=False))
                lost = 0
                jumped = False
                samples = samples[1:]
                stamps = stamps[1:]
                raw = raw[1:]
                silent = silent[1:]
        return runs

    def _run(self, samples: F32, stamps: F64, raw: F64, lost: int, jumped: bool, learn: bool) -> Run:
        count = len(stamps)
        if learn:
            self._learn(stamps)
        times = self._predict(count)
        step = float(times[1] - times[0]) if count > 1 else (1.0 + self.drift) / self.rate_hz
        first = float(times[0])
        if first <= self._last_s:  # monotone: a corrected line may move back by less than it is sure of
            first = self._last_s + 0.5 * step
        self._last_s = first + (count - 1) * step
        self._next += count
        return Run(samples, raw, first, step, lost, jumped)


class RateCheck:
    """Notices a stream whose true rate is not the declared one.

    Lost samples also lower the rate, but not by the same amount in every window: only `windows` windows in a
    row that agree with each other to `agree` and miss the declared rate by more than `tolerance` count as a
    false declaration.
    """

    def __init__(
        self,
        rate_hz: float,
        tolerance: float = 0.05,
        agree: float = 0.02,
        windows: int = 6,
        window_s: float = 0.3,
    ) -> None:
        self._rate_hz = rate_hz
        self._tolerance = tolerance
        self._agree = agree
        self._windows = windows
        self._window_s = window_s
        self._start: tuple[float, int] | None = None
        self._count = 0
        self._rates: list[float] = []

    def add(self, stamps: F64) -> float | None:
        """The rate that the stamps show, once it is certain that it is not the declared one; else None."""
        self._count += len(stamps)
        last = float(stamps[-1])
        if self._start is None or last < self._start[0]:
            self._start = (last, self._count)
            return None
        span = last - self._start[0]
        if span < self._window_s:
            return None
        rate = (self._count - self._start[1]) / span
        self._start = (last, self._count)
        if abs(rate / self._rate_hz - 1) <= self._tolerance:
            self._rates.clear()
            return None
        self._rates.append(rate)
        self._rates = self._rates[-self._windows :]
        mean = float(np.mean(self._rates))
        settled = (
            len(self._rates) == self._windows
            and max(self._rates) - min(self._rates) <= 2 * self._agree * mean
        )
        return mean if settled else None
