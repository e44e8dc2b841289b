"""Electrode schemes, and how amplifier channels become a scheme's channels.

Positions are those of the package `electromyogram` (Büchner et al., Jena; MIT) on the canonical face: x and y
in -100..100, x < 0 on the subject's right, x = 0 the midline, y = 0 the Frankfort plane; on the canonical
texture u = (x + 100) / 200 and v = (100 - y) / 200. Sites after Fridlund & Cacioppo 1986 ("Guidelines for
human electromyographic research", Psychophysiology 23) and Kuramoto et al. 2019.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from scipy.interpolate import RBFInterpolator

from .. import resources
from ..errors import InputError, ModelError, did_you_mean
from ..head.model import HeadModel
from ..types import F64, Array, Bools, EmgChannelInfo, Indices, Stamp

CONTACT_OFFSET_M = 0.005
"""Distance of each contact of a bipolar pair from the named site, along the fibre."""

# number of the right-hand channel, muscle, MMM's German name, short name of the Jena protocol, site and fibre
# on the right side. Fibre directions from the course between origin and insertion in anatomical atlases.
_FRIDLUND: tuple[tuple[int, str, str, str, tuple[float, float], tuple[float, float]], ...] = (
    (1, "medial_frontalis", "Medialer Frontalis", "med Front", (-10, 65), (0.0, 1.0)),
    (3, "lateral_frontalis", "Lateraler Frontalis", "lat Front", (-32, 60), (-0.2, 1.0)),
    (5, "corrugator_supercilii", "Corrugator Supercilii", "Corr", (-22, 52), (-0.9, 0.4)),
    (7, "depressor_supercilii", "Depressor Supercilii Procerus", "Deprsup", (-9, 49), (0.0, 1.0)),
    (9, "levator_labii_superioris", "Levator Labii Superioris", "Llsup", (-28, -12), (0.25, -1.0)),
    (11, "orbicularis_oris", "Orbicularis Oris", "OrbOr", (-21, -52), (1.0, -0.3)),
    (13, "depressor_anguli_oris", "Depressor Ang. Oris", "DAO", (-26, -69), (0.1, 1.0)),
    (15, "mentalis", "Mentalis", "Ment", (-6, -65), (0.0, -1.0)),
    (17, "orbicularis_oculi", "Orbicularis Oculi", "OrbOc", (-42, 10), (-0.9, 0.35)),
    (19, "zygomaticus_major", "Zygomaticus", "Zyg", (-53, -23), (0.7, -0.7)),
    (21, "masseter", "Masseter", "Mass", (-70, -50), (-0.25, -1.0)),
)
# fmt: off
_KURAMOTO_PAIRS = {1: (20, 66), 3: (32, 56), 5: (44, 13), 7: (25, -9), 9: (20, -67), 13: (63, 40), 15: (58, 6), 17: (72, -50)}
# fmt: on
_KURAMOTO_MIDLINE = {19: (0, 47), 20: (0, -26), 24: (0, 26)}
_SIDES = {"right": ("r", "re", "right", "rechts"), "left": ("l", "li", "left", "links")}
_CONTACT = re.compile(r"(?P<stem>.*?\w)[ _]?(?P<contact>\+|-|(?<![A-Za-z])[ab]|(?<=[ _])[ab])$")


def _key(word: str) -> str:
    """A channel name without what people write differently: case, spaces, dots, underscores, leading zeros."""
    short = re.sub(r"[\s._\-/]+", "", word.casefold())
    short = short.removeprefix("emg") or short
    return re.sub(r"^([fke])0+(\d+)$", r"\1\2", short)


@dataclass(frozen=True, eq=False)
class Scheme:
    """Where electrodes sit and what they see: C channels.

    Parameters
    ----------
    name : str
        Of the scheme.
    names : tuple[str, ...]
        (C,) short channel names (`F1`).
    muscles : tuple[str, ...]
        (C,) names used in MuscleActivity; the channel names where the scheme names no muscle.
    positions : ndarray of float64, shape (C, 2)
        Scheme coordinates, -100..100, x < 0 on the subject's right.
    fibres : ndarray of float64, shape (C, 2)
        Unit vectors along the muscle fibre in scheme coordinates, NaN where unknown.
    bipolar : bool
        Each channel is the difference of two contacts.
    aliases : Mapping[str, str], optional
        Other spellings, to the name they stand for.
    """

    name: str
    names: tuple[str, ...]
    muscles: tuple[str, ...]
    positions: F64
    fibres: F64
    bipolar: bool
    aliases: Mapping[str, str] = field(default_factory=dict)
    _lookup: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lookup: dict[str, str] = {}
        own = [(name, name) for name in self.names] + list(zip(self.muscles, self.names, strict=True))
        for word, name in [*own, *self.aliases.items()]:
            if name not in self.names:
                raise InputError(
                    f"scheme '{self.name}': alias '{word}' points at '{name}', which is not one of its channels"
                )
            owner = lookup.setdefault(_key(word), name)
            if owner != name:
                raise InputError(f"scheme '{self.name}': '{word}' would mean both {owner} and {name}")
        object.__setattr__(self, "_lookup", lookup)

    def resolve(self, word: str) -> str | None:
        """The scheme's channel that a word stands for.

        Parameters
        ----------
        word : str
            A name, muscle or alias in any spelling.

        Returns
        -------
        str or None
            Its name.
        """
        return self._lookup.get(_key(word))

    def index(self, word: str) -> int:
        """Position of the channel that a word stands for.

        Parameters
        ----------
        word : str
            A name, muscle or alias in any spelling.

        Returns
        -------
        int
            Its place in `names`.

        Raises
        ------
        InputError
            There is none; names the nearest spelling.
        """
        name = self.resolve(word)
        if name is None:
            raise InputError(
                f"scheme '{self.name}' has no channel '{word}'{did_you_mean(word, [*self.names, *self.muscles])}"
            )
        return self.names.index(name)

    def mirrored(self, word: str) -> str:
        """The channel on the other side of the face; the channel itself on the midline or where there is
        none.

        Parameters
        ----------
        word : str
            A name, muscle or alias in any spelling.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        InputError
            The word stands for no channel.
        """
        here = self.index(word)
        gaps = np.linalg.norm(self.positions - self.positions[here] * (-1, 1), axis=1)
        other = int(np.nanargmin(gaps)) if np.isfinite(gaps).any() else here
        return self.names[other] if gaps[other] < 3.0 else self.names[here]


def _mirror(xy: Sequence[float], side: str) -> tuple[float, float]:
    return (float(xy[0]), float(xy[1])) if side == "right" else (-float(xy[0]), float(xy[1]))


def _unit(vectors: npt.ArrayLike) -> F64:
    array = np.asarray(vectors, np.float64).reshape(-1, 2)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float64)


def _fridlund() -> Scheme:
    rows: dict[int, tuple[str, tuple[float, float], tuple[float, float]]] = {}
    aliases: dict[str, str] = {}
    for number, muscle, german, short, position, fibre in _FRIDLUND:
        for side, suffixes in _SIDES.items():
            channel = number if side == "right" else number + 1
            rows[channel] = (f"{muscle}_{side}", _mirror(position, side), _mirror(fibre, side))
            for stem in (muscle, german, short):
                aliases |= {
                    word: f"F{channel}"
                    for suffix in suffixes
                    for word in (f"{stem} {suffix}", f"{suffix} {stem}")
                }
    order = sorted(rows)
    return Scheme(
        "fridlund",
        tuple(f"F{n}" for n in order),
        tuple(rows[n][0] for n in order),
        np.array([rows[n][1] for n in order]),
        _unit([rows[n][2] for n in order]),
        True,
        aliases,
    )


def _kuramoto() -> Scheme:
    sites = {n: (float(x), float(y)) for n, (x, y) in _KURAMOTO_MIDLINE.items()}
    for number, (x, y) in _KURAMOTO_PAIRS.items():
        sites |= {number: (-float(x), float(y)), number + 1: (float(x), float(y))}
    order = sorted(sites)
    names = tuple(f"K{n}" for n in order)
    return Scheme(
        "kuramoto",
        names,
        names,
        np.array([sites[n] for n in order]),
        np.full((len(order), 2), np.nan),
        False,
        {f"E{n}": f"K{n}" for n in order},
    )


FRIDLUND = _fridlund()
KURAMOTO = _kuramoto()
SCHEMES: Mapping[str, Scheme] = {"fridlund": FRIDLUND, "kuramoto": KURAMOTO}

MMM_COLUMNS: tuple[str, ...] = tuple(
    f"{german}_{side}" for german in sorted(row[2] for row in _FRIDLUND) for side in "lr"
)
"""The 22 columns of an MMM envelope file: alphabetical, left before right."""


def plain_scheme(channels: Sequence[str]) -> Scheme:
    """A scheme for channels nobody described: their own names, positions unknown.

    Parameters
    ----------
    channels : Sequence[str]
        (C,) names.

    Returns
    -------
    Scheme
        Positions and fibres NaN.
    """
    unknown = np.full((len(channels), 2), np.nan)
    return Scheme("plain", tuple(channels), tuple(channels), unknown, unknown, False)


def load_scheme(name: str) -> Scheme:
    """An electrode scheme by name or file (format: docs/emg.md).

    Parameters
    ----------
    name : str
        `fridlund`, `kuramoto`, the name of a file in config/schemes/, or the path of a YAML file.

    Returns
    -------
    Scheme
        The scheme.

    Raises
    ------
    InputError
        Names the file, the channel and what would be right.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        try:
            path = resources.find("config", f"schemes/{name}.yaml")
        except InputError:
            hint = did_you_mean(name, SCHEMES)
            raise InputError(
                f"electrode scheme '{name}' is not known{hint}; use fridlund, kuramoto, or the path of a YAML file"
            ) from None
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({error})") from None
    return scheme_from_mapping(tree, str(path))


def scheme_from_mapping(tree: Any, where: str) -> Scheme:
    """A scheme from parsed YAML.

    Parameters
    ----------
    tree : object
        `name`, `reference` (bipolar or monopolar) and `channels`, each with `name`, `position` [x, y] and
        optionally `muscle`, `fibre` [x, y] and `aliases`.
    where : str
        File, for the message.

    Returns
    -------
    Scheme
        The scheme.

    Raises
    ------
    InputError
        Names the channel and what would be right.
    """
    if not isinstance(tree, dict) or not isinstance(tree.get("channels"), list) or not tree["channels"]:
        raise InputError(f"{where}: a scheme needs 'name', 'reference' and a list 'channels'")
    unknown = set(tree) - {"name", "reference", "channels"}
    if unknown:
        raise InputError(f"{where}: unknown key '{min(unknown)}'; a scheme has name, reference, channels")
    if tree.get("reference", "monopolar") not in ("bipolar", "monopolar"):
        raise InputError(f"{where}: reference is '{tree['reference']}'; it must be bipolar or monopolar")
    names: list[str] = []
    muscles: list[str] = []
    positions: list[F64] = []
    fibres: list[F64] = []
    aliases: dict[str, str] = {}
    for number, row in enumerate(tree["channels"], start=1):
        here = f"{where}: channel {number}"
        if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not row["name"]:
            raise InputError(f"{here}: each channel needs at least a 'name' (text) and a 'position' [x, y]")
        here += f" ({row['name']})"
        extra = set(row) - {"name", "muscle", "position", "fibre", "aliases"}
        if extra:
            raise InputError(
                f"{here}: unknown key '{min(extra)}'; a channel has name, muscle, position, fibre, aliases"
            )
        if row["name"] in names:
            raise InputError(f"{here}: the name occurs twice")
        position = _pair(row.get("position"), f"{here}: position")
        if np.abs(position).max() > 100:
            raise InputError(
                f"{here}: position {position.tolist()} is off the face; both values must lie in -100..100"
            )
        names.append(row["name"])
        muscles.append(str(row.get("muscle") or row["name"]))
        positions.append(position)
        fibres.append(_fibre(row.get("fibre"), here))
        listed = row.get("aliases") or []
        if not isinstance(listed, list):
            raise InputError(f"{here}: aliases must be a list of names, found {listed!r}")
        aliases |= {str(word): row["name"] for word in listed}
    if len(set(muscles)) != len(muscles):
        twice = next(muscle for muscle in muscles if muscles.count(muscle) > 1)
        raise InputError(f"{where}: muscle '{twice}' is named by two channels; add a side or a number")
    bipolar = tree.get("reference", "monopolar") == "bipolar"
    return Scheme(
        str(tree.get("name") or "user"),
        tuple(names),
        tuple(muscles),
        np.array(positions),
        np.array(fibres),
        bipolar,
        aliases,
    )


def _pair(value: Any, where: str) -> F64:
    numbers = isinstance(value, list) and len(value) == 2 and all(isinstance(n, int | float) for n in value)
    if not numbers or not np.isfinite(value).all():
        raise InputError(f"{where} is {value!r}; it must be two numbers [x, y]")
    return np.asarray(value, np.float64)


def _fibre(value: Any, where: str) -> F64:
    if value is None:
        return np.full(2, np.nan)
    fibre = _pair(value, f"{where}: fibre")
    if not fibre.any():
        raise InputError(f"{where}: fibre [0, 0] has no direction")
    return np.asarray(_unit(fibre)[0])


def guess_scheme(channels: Sequence[str]) -> Scheme:
    """The built-in scheme that knows most of `channels`, or a plain one where neither knows at least half of
    them.

    Parameters
    ----------
    channels : Sequence[str]
        (C,) names.

    Returns
    -------
    Scheme
        A built-in scheme or a plain one.
    """

    def matches(scheme: Scheme) -> int:
        return sum(scheme.resolve(_contact(channel)[0]) is not None for channel in channels)

    best = max(SCHEMES.values(), key=matches)
    return best if 2 * matches(best) >= len(channels) else plain_scheme(channels)


def _contact(channel: str) -> tuple[str, str]:
    """`F1a` -> (`F1`, `+`); `Zyg li -` -> (`Zyg li`, `-`); a name without a contact mark keeps an empty one."""
    match = _CONTACT.match(channel.strip())
    if match is None:
        return channel, ""
    return match["stem"], {"a": "+", "b": "-"}.get(match["contact"], match["contact"])


@dataclass(frozen=True, eq=False)
class Montage:
    """A linear map from S amplifier channels to C scheme channels.

    Parameters
    ----------
    scheme : Scheme
        Whose channels come out.
    kind : str
        `monopolar`, `bipolar` or `average`.
    source : tuple[str, ...]
        (S,) names of the amplifier's channels.
    channels, muscles : tuple[str, ...]
        (C,) names after the map.
    matrix : ndarray of float64, shape (C, S)
        The map.
    contacts : tuple[tuple[int, ...], ...]
        For each channel the amplifier channels whose contact it depends on (without those that only enter the
        common average).
    missing : tuple[str, ...]
        Scheme channels without a source.
    ignored : tuple[str, ...]
        Amplifier channels not used.
    bad : tuple[str, ...]
        Channels declared unusable; they stay in the output as NaN.
    """

    scheme: Scheme
    kind: str
    source: tuple[str, ...]
    channels: tuple[str, ...]
    muscles: tuple[str, ...]
    matrix: F64
    contacts: tuple[tuple[int, ...], ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    bad: tuple[str, ...]

    # derived once, because the streaming path asks for them for every chunk
    _selection: Indices | None = field(init=False, repr=False, compare=False)
    _bad: Indices = field(init=False, repr=False, compare=False)
    _reference: Bools = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        picks = (self.matrix != 0).sum(axis=1) == 1
        whole = bool(picks.all() and (self.matrix.max(axis=1) == 1).all())
        object.__setattr__(self, "_selection", np.argmax(self.matrix, axis=1) if whole else None)
        object.__setattr__(self, "_bad", np.flatnonzero([name in self.bad for name in self.channels]))
        object.__setattr__(self, "_reference", (self.matrix < 0).any(axis=0))

    def apply(self, samples: Array) -> F64:
        """Samples of the amplifier's channels to those of the scheme.

        A sample that is not finite makes only the channels NaN that sit on that contact.

        Parameters
        ----------
        samples : ndarray, shape (N, S)
            Volts.

        Returns
        -------
        ndarray of float64, shape (N, C)
            Volts.
        """
        x = np.asarray(samples, np.float64)
        if self._selection is not None:
            out = x[:, self._selection]
        elif np.isfinite(x).all():
            out = x @ self.matrix.T
        else:
            out = self._apply_damaged(x)
        if self.bad:
            out[:, self._bad] = np.nan
        return np.ascontiguousarray(out)

    def _apply_damaged(self, x: F64) -> F64:
        finite = np.isfinite(x)
        if self.kind == "average":
            average = self._reference
            count = (finite & average).sum(axis=1, keepdims=True)
            mean = np.where(finite & average, x, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
            return np.asarray(x[:, [contact[0] for contact in self.contacts]] - mean)
        out = np.where(finite, x, 0.0) @ self.matrix.T
        touched = (~finite).astype(np.float64) @ (self.matrix != 0).T.astype(np.float64)
        out[touched > 0] = np.nan
        return np.asarray(out)

    @property
    def positions(self) -> F64:
        """(C, 2) scheme coordinates."""
        return np.asarray(self.scheme.positions[[self.scheme.names.index(name) for name in self.channels]])

    def info(self, stamp: Stamp, rate_hz: float) -> EmgChannelInfo:
        """What a subscriber must know about the channels of MuscleActivity.

        Parameters
        ----------
        stamp : int (ns)
            When it is said.
        rate_hz : float
            Sampling rate of the stream.

        Returns
        -------
        EmgChannelInfo
            Names, muscles, scheme, montage and positions.
        """
        return EmgChannelInfo(
            stamp,
            self.channels,
            self.muscles,
            self.scheme.name,
            self.kind,
            rate_hz,
            self.positions.astype(np.float32),
        )


def build_montage(
    source: Sequence[str],
    scheme: Scheme,
    kind: str = "auto",
    *,
    channel_map: Sequence[str] = (),
    bad: Sequence[str] = (),
) -> Montage:
    """The map from the amplifier's channel names to a scheme.

    Parameters
    ----------
    source : Sequence[str]
        (S,) names of the amplifier's channels.
    scheme : Scheme
        The electrode scheme.
    kind : str, optional
        `recorded` takes each channel as it is (an amplifier that measures pairs itself, or a monopolar
        scheme); `bipolar` subtracts the second contact of a pair from the first (names like `F1a`/`F1b`, `Zyg
        li +`/`Zyg li -`); `average` subtracts the mean of all good channels of the scheme; `auto` is bipolar
        where contacts are marked, else recorded.
    channel_map : Sequence[str], optional
        Entries `F1 = AUX 3` or `F1 = ch 1, ch 2` (first minus second) for amplifiers whose names say nothing.
    bad : Sequence[str], optional
        Channels of the scheme or the amplifier that are not to be used.

    Returns
    -------
    Montage
        The map.

    Raises
    ------
    InputError
        Names the channel that does not fit.
    """
    if kind not in ("auto", "recorded", "bipolar", "average"):
        raise InputError(f"montage '{kind}' is not known; it must be auto, recorded, bipolar or average")
    if len(set(source)) != len(source):
        twice = next(name for name in source if list(source).count(name) > 1)
        raise InputError(f"amplifier channel '{twice}' occurs twice; channel names must differ")
    pairs = _explicit(source, scheme, channel_map) if channel_map else _by_name(source, scheme, kind)
    if not pairs:
        raise InputError(
            f"none of the amplifier channels ({_some(source)}) is a channel of scheme '{scheme.name}' ({_some(scheme.names)}); "
            "name them with channel_map, or use another scheme"
        )
    channels = tuple(name for name in scheme.names if name in pairs)
    unusable = _bad_channels(bad, source, scheme, pairs)
    matrix = np.zeros((len(channels), len(source)))
    for row, name in enumerate(channels):
        matrix[row, pairs[name][0]] = 1.0
        if len(pairs[name]) == 2:
            matrix[row, pairs[name][1]] = -1.0
    is_pair = any(len(contact) == 2 for contact in pairs.values())
    label = "bipolar" if is_pair or scheme.bipolar else "monopolar"
    if kind == "average":
        good = [pairs[name][0] for name in channels if name not in unusable]
        if is_pair:
            raise InputError("montage 'average' needs monopolar channels, but channel_map names pairs")
        if len(good) < 2:
            raise InputError(f"montage 'average' needs at least 2 good channels; there is {len(good)}")
        matrix[:, good] -= 1.0 / len(good)
        label = "average"
    used = {index for contact in pairs.values() for index in contact}
    return Montage(
        scheme,
        label,
        tuple(source),
        channels,
        tuple(scheme.muscles[scheme.names.index(name)] for name in channels),
        matrix,
        tuple(pairs[name] for name in channels),
        tuple(name for name in scheme.names if name not in pairs),
        tuple(name for index, name in enumerate(source) if index not in used),
        tuple(name for name in channels if name in unusable),
    )


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _explicit(
    source: Sequence[str], scheme: Scheme, channel_map: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    pairs: dict[str, tuple[int, ...]] = {}
    for entry in channel_map:
        left, equals, right = entry.partition("=")
        contacts = [word.strip() for word in right.split(",")]
        if not equals or not 1 <= len(contacts) <= 2 or not all(contacts):
            raise InputError(
                f"channel_map entry '{entry}' must read 'F1 = amplifier channel' or 'F1 = first, second'"
            )
        name = scheme.names[scheme.index(left.strip())]
        for word in contacts:
            if word not in source:
                raise InputError(
                    f"channel_map entry '{entry}': the amplifier has no channel '{word}'{did_you_mean(word, source)}"
                )
        if name in pairs:
            raise InputError(f"channel_map names {name} twice")
        if len(set(contacts)) != len(contacts):
            raise InputError(f"channel_map entry '{entry}' subtracts a channel from itself")
        pairs[name] = tuple(list(source).index(word) for word in contacts)
    if len({len(contacts) for contacts in pairs.values()}) > 1:
        raise InputError("channel_map mixes single channels and pairs; use one kind for all")
    return pairs


def _by_name(source: Sequence[str], scheme: Scheme, kind: str) -> dict[str, tuple[int, ...]]:
    direct: dict[str, tuple[int, ...]] = {}
    contacts: dict[str, dict[str, int]] = {}
    for index, channel in enumerate(source):
        name = scheme.resolve(channel)
        stem, contact = _contact(channel)
        if name is not None:
            if name in direct:
                raise InputError(
                    f"amplifier channels '{source[direct[name][0]]}' and '{channel}' both mean {name}"
                )
            direct[name] = (index,)
        elif contact and (name := scheme.resolve(stem)) is not None:
            if contact in contacts.setdefault(name, {}):
                raise InputError(f"amplifier channel '{channel}': contact {contact} of {name} occurs twice")
            contacts[name][contact] = index
    if kind == "bipolar" or (kind == "auto" and contacts and not direct):
        if not contacts and direct:
            raise InputError(
                f"montage 'bipolar' finds no contact pairs such as {next(iter(direct))}a and {next(iter(direct))}b; "
                "if the amplifier measures pairs itself use 'recorded', else name the pairs with channel_map"
            )
        for name, poles in contacts.items():
            if len(poles) != 2:
                lone = source[next(iter(poles.values()))]
                raise InputError(
                    f"amplifier channel '{lone}' is one contact of {name}; the other one is missing"
                )
        return {name: (poles["+"], poles["-"]) for name, poles in contacts.items()}
    return direct


def _bad_channels(
    bad: Sequence[str], source: Sequence[str], scheme: Scheme, pairs: Mapping[str, tuple[int, ...]]
) -> set[str]:
    unusable: set[str] = set()
    for word in bad:
        if word in source:
            position = list(source).index(word)
            unusable |= {name for name, contact in pairs.items() if position in contact}
        elif (name := scheme.resolve(word)) is not None:
            unusable.add(name)
        else:
            raise InputError(
                f"bad channel '{word}' is neither an amplifier channel nor one of the scheme{did_you_mean(word, source)}"
            )
    return unusable


def on_head(positions: npt.ArrayLike, head: HeadModel, vertices: Array | None = None) -> F64:
    """Scheme positions on the head.

    A thin-plate spline through the built-in electrode sites the head model carries, as `electromyogram`
    interpolates.

    Parameters
    ----------
    positions : array_like, shape (P, 2)
        Scheme coordinates.
    head : HeadModel
        The head model.
    vertices : ndarray, shape (V, 3), optional
        Posed vertices; None for the template.

    Returns
    -------
    ndarray of float64, shape (P, 3)
        Model coordinates, m.

    Raises
    ------
    ModelError
        The head carries no electrode sites.
    """
    flat: list[F64] = []
    places: list[Array] = []
    surface = head.template if vertices is None else vertices
    for scheme in SCHEMES.values():
        embedding = head.embeddings.get(f"electrodes_{scheme.name}")
        if embedding is None:
            continue
        points = embedding.points(surface, head.faces)
        for site, point in zip(embedding.names, points, strict=True):
            name = scheme.resolve(site)
            if name is not None:
                flat.append(scheme.positions[scheme.names.index(name)])
                places.append(point)
    if len(flat) < 6:
        raise ModelError(f"head model '{head.id}' carries no electrode sites")
    spline = RBFInterpolator(np.array(flat), np.array(places, np.float64), kernel="thin_plate_spline")
    return np.asarray(spline(np.asarray(positions, np.float64).reshape(-1, 2)), np.float64)


def contact_points(
    scheme: Scheme,
    head: HeadModel,
    vertices: Array | None = None,
    offset_m: float = CONTACT_OFFSET_M,
) -> F64:
    """Both contacts of each channel, over the skin along the fibre.

    Where the fibre is not known both contacts are the site itself.

    Parameters
    ----------
    scheme : Scheme
        C channels.
    head : HeadModel
        The head model.
    vertices : ndarray, shape (V, 3), optional
        Posed vertices; None for the template.
    offset_m : float, optional
        Distance of a contact from the site.

    Returns
    -------
    ndarray of float64, shape (C, 2, 3)
        Model coordinates, m.

    Raises
    ------
    ModelError
        The head carries no electrode sites.
    """
    step = 0.5  # scheme units, about half a millimetre
    fibres = np.where(np.isfinite(scheme.fibres), scheme.fibres, 0.0)
    ahead, behind = (on_head(scheme.positions + sign * step * fibres, head, vertices) for sign in (1, -1))
    m_per_unit = np.linalg.norm(ahead - behind, axis=1, keepdims=True) / (2 * step)
    reach = np.divide(offset_m, m_per_unit, out=np.zeros_like(m_per_unit), where=m_per_unit > 0)
    return np.stack(
        [on_head(scheme.positions + sign * reach * fibres, head, vertices) for sign in (1, -1)], axis=1
    )
