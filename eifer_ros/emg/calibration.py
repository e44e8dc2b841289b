"""From envelope in volts to activation 0..1, by the 11 functional movements of the EIFER protocol.

    a = sqrt(max(e^2 - rest^2, 0)) / P99,  clipped to 0..1

per channel: `rest` is the median envelope of the face at rest, P99 the 99th percentile of the numerator over
all movements (methods.md section 3; facial maximum voluntary contraction is not reliable). A calibration
belongs to one filter profile, one scheme and named channels, and refuses others.

`calibrate_recording` works on recorded activity; `calibration_session.py` guides a participant live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from ..errors import InputError
from ..types import F64, NS, Array, Marker, MuscleActivity, Stamp
from .filters import profile_named
from .montage import SCHEMES, Scheme, load_scheme, plain_scheme
from .protocol import PROTOCOL, REST, Span, movement_named, spans
from .takes import Take, TakeChecker, TakeStore

FORMAT = 1
FLOOR_V = 1e-6
"""Full scale is never below this nor below the channel's rest level: the noise of a muscle that no movement
used would fill 0..1.
"""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Rest level and full scale of C channels, for one filter profile and scheme.

    Parameters
    ----------
    scheme : str
        Electrode scheme.
    profile : str
        Filter profile of the envelopes.
    muscles : tuple[str, ...]
        (C,) names as in MuscleActivity.
    rest, p99 : ndarray of float64, shape (C,)
        Volts; NaN for a channel without usable contact.
    stamp : int (ns)
        When it was made.
    takes : tuple[Take, ...], optional
        What it was made from.
    weak : tuple[str, ...], optional
        Channels that no movement raised above the floor.
    participant : str, optional
        Whose it is.
    mains_hz : float, optional
        Mains frequency.

    Raises
    ------
    InputError
        Not one value per channel, or a level that cannot be.
    """

    scheme: str
    profile: str
    muscles: tuple[str, ...]
    rest: F64
    p99: F64
    stamp: Stamp
    takes: tuple[Take, ...] = ()
    weak: tuple[str, ...] = ()
    participant: str = ""
    mains_hz: float = 50.0

    def __post_init__(self) -> None:
        profile_named(self.profile)
        for name in ("rest", "p99"):
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != (len(self.muscles),):
                raise InputError(
                    f"calibration: {name} has {value.size} values for {len(self.muscles)} channels"
                )
            object.__setattr__(self, name, value)
        for muscle, rest, p99 in zip(self.muscles, self.rest, self.p99, strict=True):
            if rest < 0 or p99 <= 0 or np.isnan(rest) != np.isnan(p99):
                raise InputError(
                    f"calibration: {muscle} has rest {rest} V and P99 {p99} V; rest must be 0 or more and P99 above 0"
                )

    @property
    def dead(self) -> tuple[str, ...]:
        """Channels without usable contact during the calibration: their activation stays NaN."""
        return tuple(muscle for muscle, p99 in zip(self.muscles, self.p99, strict=True) if np.isnan(p99))

    def activation(self, envelope: npt.ArrayLike) -> Array:
        """Activation of an envelope.

        Parameters
        ----------
        envelope : array_like, shape (..., C)
            Volts.

        Returns
        -------
        ndarray, shape (..., C)
            0..1; NaN where the envelope is NaN or the channel is dead.
        """
        e = np.asarray(envelope)
        return np.asarray(np.clip(np.sqrt(np.maximum(e**2 - self.rest**2, 0.0)) / self.p99, 0.0, 1.0))

    def matched(self, scheme: str, profile: str, muscles: Sequence[str]) -> Calibration:
        """This calibration in another channel order.

        Parameters
        ----------
        scheme : str
            Of the stream.
        profile : str
            Of the stream.
        muscles : Sequence[str]
            (C,) names of the stream, in its order.

        Returns
        -------
        Calibration
            The same values in that order.

        Raises
        ------
        InputError
            Scheme, profile or a channel does not fit; names it.
        """
        if profile != self.profile:
            raise InputError(
                f"the calibration was made with filter profile '{self.profile}'; the stream uses '{profile}'"
            )
        if scheme != self.scheme:
            raise InputError(
                f"the calibration was made with electrode scheme '{self.scheme}'; the stream uses '{scheme}'"
            )
        missing = [muscle for muscle in muscles if muscle not in self.muscles]
        absent = [muscle for muscle in self.muscles if muscle not in muscles]
        if missing or absent:
            wrong = [f"does not know {', '.join(missing)}"] if missing else []
            wrong += [f"expects {', '.join(absent)}, which the stream lacks"] if absent else []
            raise InputError(f"the calibration {' and '.join(wrong)}; calibrate again with this montage")
        order = [self.muscles.index(muscle) for muscle in muscles]
        return Calibration(
            self.scheme,
            self.profile,
            tuple(muscles),
            self.rest[order],
            self.p99[order],
            self.stamp,
            self.takes,
            self.weak,
            self.participant,
            self.mains_hz,
        )

    def save(self, path: Path) -> None:
        """Write a readable YAML file.

        Parameters
        ----------
        path : Path
            The file; its folder is made.

        Raises
        ------
        InputError
            It cannot be written.
        """

        def number(value: float) -> float | None:
            return None if np.isnan(value) else float(f"{value:.6e}")

        def state(muscle: str) -> str:
            return "dead" if muscle in self.dead else "weak" if muscle in self.weak else "good"

        channels = {
            muscle: {"rest_v": number(self.rest[i]), "p99_v": number(self.p99[i]), "state": state(muscle)}
            for i, muscle in enumerate(self.muscles)
        }
        takes = [
            {
                "movement": take.movement,
                "start": take.start,
                "end": take.end,
                "accepted": take.accepted,
                "advice": take.advice,
            }
            for take in self.takes
        ]
        created = datetime.fromtimestamp(self.stamp // NS, UTC).isoformat()
        tree = {
            "eifer_calibration": FORMAT,
            "made": created,
            "stamp": self.stamp,
            "participant": self.participant,
            "scheme": self.scheme,
            "profile": self.profile,
            "mains_hz": self.mains_hz,
            "channels": channels,
            "takes": takes,
        }
        text = "# Rest level and full scale of each EMG channel, volts. Belongs to this filter profile, scheme and set of channels.\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                text + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None

    @staticmethod
    def load(path: Path) -> Calibration:
        """Read a file written by `save`.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        Calibration
            The calibration.

        Raises
        ------
        InputError
            Names the file and the entry that is wrong.
        """
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: calibration cannot be read ({getattr(error, 'strerror', None) or error})"
            ) from None
        except yaml.YAMLError as error:
            raise InputError(f"{path}: calibration is not valid YAML ({error})") from None
        if not isinstance(tree, dict) or "eifer_calibration" not in tree:
            raise InputError(f"{path}: not an eifer calibration (no entry 'eifer_calibration')")
        if tree["eifer_calibration"] != FORMAT:
            raise InputError(
                f"{path}: calibration format {tree['eifer_calibration']}; this version reads format {FORMAT}"
            )
        try:
            channels = tree["channels"]
            muscles = tuple(str(muscle) for muscle in channels)
            rest, p99 = (
                np.array([np.nan if row[key] is None else float(row[key]) for row in channels.values()])
                for key in ("rest_v", "p99_v")
            )
            takes = tuple(
                Take(
                    str(row["movement"]),
                    int(row["start"]),
                    int(row["end"]),
                    bool(row["accepted"]),
                    str(row.get("advice", "")),
                )
                for row in tree.get("takes") or []
            )
            weak = tuple(str(muscle) for muscle, row in channels.items() if row.get("state") == "weak")
            return Calibration(
                str(tree["scheme"]),
                str(tree["profile"]),
                muscles,
                rest,
                p99,
                int(tree["stamp"]),
                takes,
                weak,
                str(tree.get("participant", "")),
                float(tree.get("mains_hz", 50.0)),
            )
        except KeyError as error:
            raise InputError(f"{path}: calibration lacks the entry {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: calibration has an entry of the wrong kind ({error})") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def fit_calibration(
    checker: TakeChecker,
    store: TakeStore,
    takes: Sequence[Take],
    profile: str,
    participant: str,
    mains_hz: float,
) -> Calibration:
    """Rest and P99 from accepted takes.

    Parameters
    ----------
    checker : TakeChecker
        Knows scheme, channels and which of them are dead.
    store : TakeStore
        Envelopes of the recording.
    takes : Sequence[Take]
        What was performed.
    profile : str
        Filter profile of the envelopes.
    participant : str
        Whose it is.
    mains_hz : float
        Mains frequency.

    Returns
    -------
    Calibration
        The calibration.

    Raises
    ------
    InputError
        There is no rest or no movement, or most channels are dead.
    """
    rests = [store.usable(take.start, take.end) for take in takes if take.accepted and take.movement == REST]
    moves = [store.usable(take.start, take.end) for take in takes if take.accepted and take.movement != REST]
    if not rests:
        raise InputError(f"no usable take of {REST}: {_last_advice(takes, REST)}")
    if not moves:
        raise InputError(f"no usable take of any movement: {_last_advice(takes, '')}")
    count = len(checker.muscles)
    rest = np.full(count, np.nan)
    p99 = np.full(count, np.nan)
    weak = []
    still = np.concatenate(rests)
    moving = np.concatenate(moves)
    for i in range(count):
        if i in checker.dead or np.isnan(still[:, i]).all() or np.isnan(moving[:, i]).all():
            continue
        rest[i] = np.nanmedian(still[:, i])
        strength = np.sqrt(np.maximum(moving[:, i] ** 2 - rest[i] ** 2, 0.0))
        p99[i] = np.nanpercentile(strength, 99)
        floor = max(FLOOR_V, rest[i])
        if p99[i] < floor:
            p99[i] = floor
            weak.append(checker.muscles[i])
    dead = [checker.muscles[i] for i in np.flatnonzero(np.isnan(p99))]
    if 2 * len(dead) > count:
        raise InputError(
            f"{len(dead)} of {count} channels have no contact ({', '.join(dead[:6])}); fix the electrodes and calibrate again"
        )
    return Calibration(
        checker.scheme.name,
        profile,
        checker.muscles,
        rest,
        p99,
        takes[-1].end,
        tuple(takes),
        tuple(weak),
        participant,
        mains_hz,
    )


def _last_advice(takes: Sequence[Take], movement: str) -> str:
    advice = [take.advice for take in takes if movement in ("", take.movement) and take.advice]
    return advice[-1] if advice else "it was not recorded"


def scheme_of(scheme: Scheme | str, muscles: Sequence[str]) -> Scheme:
    """A scheme, or the one of that name; where it is known only where it was recorded, names suffice and
    positions are not needed.

    Parameters
    ----------
    scheme : Scheme or str
        A scheme or its name.
    muscles : Sequence[str]
        (C,) channels of the stream.

    Returns
    -------
    Scheme
        The scheme.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme in SCHEMES:
        return SCHEMES[scheme]
    try:
        return load_scheme(scheme)
    except InputError:
        return plain_scheme(
            muscles
        )  # a scheme known where it was recorded: names suffice, positions are not needed


def calibrate_recording(
    items: Iterable[MuscleActivity],
    markers: Iterable[Marker | Span | tuple[str, Stamp, Stamp]],
    *,
    profile: str = "live",
    scheme: Scheme | None = None,
    participant: str = "",
    mains_hz: float = 50.0,
) -> Calibration:
    """A calibration from recorded activity and the times of the movements.

    A bad take is left out and kept in `takes` with the reason; a channel counts only where its contact was
    good.

    Parameters
    ----------
    items : Iterable[MuscleActivity]
        Activity of the recording.
    markers : Iterable[Marker or Span or tuple[str, Stamp, Stamp]]
        The start and end markers of the recording, or spans; movements outside the protocol (the emotional
        ones) are passed over.
    profile : str, optional
        Filter profile of the envelopes.
    scheme : Scheme, optional
        None for that of the activity.
    participant : str, optional
        Whose it is.
    mains_hz : float, optional
        Mains frequency.

    Returns
    -------
    Calibration
        The calibration.

    Raises
    ------
    InputError
        Nothing usable remains: no items, no rest, no movement, most channels dead.
    """
    store = TakeStore()
    first: MuscleActivity | None = None
    for item in items:
        first = first or item
        if item.muscles != first.muscles or item.scheme != first.scheme:
            raise InputError(
                "the EMG channels or the scheme change within the recording; calibrate each part by itself"
            )
        store.add(item)
    if first is None:
        raise InputError("the recording holds no muscle activity")
    protocol_spans = [
        (movement, span) for span in spans(markers) if (movement := movement_named(span.movement)) is not None
    ]
    if not protocol_spans:
        raise InputError(
            "no marker names a movement of the protocol: " + ", ".join(movement.name for movement in PROTOCOL)
        )
    checker = TakeChecker(scheme_of(scheme or first.scheme, first.muscles), first.muscles, profile)
    # a channel without contact in most of the takes is dead for all of them
    counts = np.zeros(len(first.muscles))
    filled = 0
    for _, span in protocol_spans:
        envelope, quality = store.between(span.start, span.end)
        if len(envelope):
            counts[checker.without_contact(envelope, quality)] += 1
            filled += 1
    checker.dead = {int(i) for i in np.flatnonzero(counts > 0.5 * filled)} if filled else set()
    takes: list[Take] = []
    for movement, span in sorted(protocol_spans, key=lambda pair: (pair[0].name != REST, pair[1].start)):
        envelope, quality = store.between(span.start, span.end)
        advice = checker.advice(movement, envelope, quality, repeatable=False)
        takes.append(Take(movement.name, span.start, span.end, not advice, advice))
        if not advice and movement.name == REST and checker.rest is None:
            checker.learn_rest(envelope, quality)
    takes.sort(key=lambda take: take.start)
    return fit_calibration(checker, store, takes, profile, participant, mains_hz)
