"""Everything that a URL or a name opens: cameras, EMG sources, avatars, servo drivers, estimators.

A kind of device is one `Entry`: its scheme, its class as text (imported when it is opened, not before), how
its URL is written, and the extra that it needs. The class says its parameters by `config_type`, a
`config.DeviceConfig`. Help texts, error messages, `eifer doctor` and the tables in README and docs are printed
from the entries.

Other distributions add kinds of their own through Python entry points, such as

    [project.entry-points."eifer.sources"]
    myoband = "myoband.eifer:MyobandSource"

One that is broken or badly named is reported (`Registry.problems`) and never takes down the others.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qsl

from .errors import ConfigError, EiferError, MissingExtra, did_you_mean

if TYPE_CHECKING:  # the command line prints usages in its help, and must not wait for numpy and pydantic
    from importlib.metadata import EntryPoint

    from .component import Source
    from .config import DeviceConfig

T = TypeVar("T")
BUILT_IN = "eifer_ros"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One kind of device.

    Parameters
    ----------
    scheme : str
        What stands before the colon of its URL.
    target : str
        Its class, `module:Class`.
    usage : str
        How the URL is written, `video:FILE`.
    what : str
        One plain sentence.
    extra : str, optional
        Extra of eifer_ros that it needs, empty for none.
    origin : str, optional
        The distribution that brings it.
    """

    scheme: str
    target: str
    usage: str
    what: str
    extra: str = ""
    origin: str = BUILT_IN


class Registry(Generic[T]):
    """All kinds of one sort of device, in the order in which they are listed.

    Parameters
    ----------
    name : str
        What a message calls one of them: `camera`.
    group : str
        Entry point group in which other distributions add theirs.
    bare : str, optional
        Scheme that a URL without one most likely meant, such as `video` for `take1.mp4`.
    *entries : Entry
        The built-in kinds.
    """

    def __init__(self, name: str, group: str, *entries: Entry, bare: str = "") -> None:
        self.name = name
        self.group = group
        self.bare = bare
        self._entries: dict[str, Entry] = {}
        self._plugins: dict[str, Entry] | None = None
        self._broken: dict[str, str] = {}
        self._problems: list[str] = []
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry) -> None:
        """Add a kind of device from Python, as an entry point does for an installed distribution.

        Parameters
        ----------
        entry : Entry
            The kind.

        Raises
        ------
        ConfigError
            The scheme is taken, or cannot stand before the colon of a URL.
        """
        if not _is_scheme(entry.scheme):
            raise ConfigError(
                f"'{entry.scheme}' cannot name a {self.name}: use lower-case letters, digits, '-' and '_'"
            )
        if entry.scheme in self._entries:
            raise ConfigError(
                f"there is a {self.name} '{entry.scheme}' already ({self._entries[entry.scheme].target}); "
                "take another name"
            )
        self._entries[entry.scheme] = entry

    def built_in(self) -> tuple[Entry, ...]:
        """The kinds that need no look at what else is installed.

        Returns
        -------
        tuple[Entry, ...]
            In the order in which they are listed.
        """
        return tuple(self._entries.values())

    def entries(self) -> tuple[Entry, ...]:
        """Every kind that can be opened, plug-ins last.

        Returns
        -------
        tuple[Entry, ...]
            In the order in which they are listed.
        """
        return (*self._entries.values(), *self._discover().values())

    def schemes(self) -> tuple[str, ...]:
        """Names of every kind that can be opened.

        Returns
        -------
        tuple[str, ...]
            In the order in which they are listed.
        """
        return tuple(entry.scheme for entry in self.entries())

    def entry(self, scheme: str) -> Entry:
        """The kind of that name.

        Parameters
        ----------
        scheme : str
            Its name.

        Returns
        -------
        Entry
            Its entry.

        Raises
        ------
        ConfigError
            There is none, with the nearest name; or the plug-in of that name is unusable, with why.
        """
        plugins = self._discover()
        entry = self._entries.get(scheme) or plugins.get(scheme)
        if entry is not None:
            return entry
        if scheme in self._broken:
            raise ConfigError(self._broken[scheme])
        hint = did_you_mean(scheme, self.schemes())
        raise ConfigError(f"unknown {self.name} '{scheme}'{hint}; write {self.usage()}")

    def load(self, scheme: str) -> type[T]:
        """The class of a kind.

        Parameters
        ----------
        scheme : str
            Its name.

        Returns
        -------
        type[T]
            The class, imported.

        Raises
        ------
        ConfigError
            As `entry`; or the class cannot be imported.
        MissingExtra
            It needs an extra that is not installed.
        """
        entry = self.entry(scheme)
        try:
            device: type[T] = _import(entry.target)
        except Exception as error:  # whatever a plug-in does when it is imported, others still work
            if isinstance(error, EiferError):
                raise
            if entry.extra and isinstance(error, ImportError):
                raise MissingExtra(
                    error.name or entry.extra, entry.extra, f"{self.name} '{scheme}'"
                ) from None
            raise ConfigError(self._unusable(entry, error)) from error
        if entry.origin != BUILT_IN and entry == self._discover().get(scheme):
            self._discover()[scheme] = replace(entry, usage=_usage(device, scheme), what=_what(device))
        return device

    def config_type(self, scheme: str) -> type[DeviceConfig]:
        """The parameters of a kind.

        Parameters
        ----------
        scheme : str
            Its name.

        Returns
        -------
        type[DeviceConfig]
            Its config class.

        Raises
        ------
        ConfigError
            As `load`; or the class has no usable `config_type`.
        """
        from .config import DeviceConfig

        config_type = getattr(self.load(scheme), "config_type", None)
        if not (isinstance(config_type, type) and issubclass(config_type, DeviceConfig)):
            entry = self.entry(scheme)
            raise ConfigError(
                f"{entry.origin}: its {self.name} '{scheme}' ({entry.target}) has no config_type that derives "
                "from eifer_ros.config.DeviceConfig"
            )
        return config_type

    def scheme(self, url: str) -> str:
        """The name of the kind that `url` opens; nothing is imported.

        Parameters
        ----------
        url : str
            `scheme`, `scheme:ADDRESS` or `scheme:ADDRESS?name=value`.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        ConfigError
            There is no such kind.
        """
        return self._split(url)[0]

    def configure(self, url: str, /, **options: Any) -> tuple[type[T], DeviceConfig]:
        """Class and checked parameters of what `url` names; nothing is opened.

        Parameters
        ----------
        url : str
            `scheme`, `scheme:ADDRESS` or `scheme:ADDRESS?name=value&name=value`. Lists are written with
            commas. A file whose name holds a `?` is taken by its name.
        **options : Any
            Parameters that the URL may leave open; what the URL says goes before them.

        Returns
        -------
        tuple of (type, DeviceConfig)
            The class, and what it takes.

        Raises
        ------
        ConfigError
            Unknown kind, unknown parameter or bad value, with what would be right.
        MissingExtra
            It needs an extra that is not installed.
        """
        from .config import build

        scheme, rest = self._split(url)
        config_type = self.config_type(scheme)
        address, mark, query = rest.partition("?")
        if mark and os.path.exists(os.path.expanduser(rest)):
            address = rest
            query = ""
        values = dict(options)
        try:
            values |= config_type.from_address(address.strip())
        except ValueError as error:
            raise ConfigError(f"{self.name} '{url}': {error}; write {self.entry(scheme).usage}") from None
        for name, value in parse_qsl(query, keep_blank_values=True):
            if not name:
                raise ConfigError(f"{self.name} '{url}': options are written name=value")
            alias = config_type.aliases.get(name, name)
            values[alias if alias in config_type.model_fields else name] = value
        return self.load(scheme), build(config_type, values, f"{scheme}:{address}" if address else scheme)

    def open(self, url: str, /, **options: Any) -> T:
        """What `url` names, made but not set up; see `configure`.

        What is wrong with the file or device itself shows in its `setup`.

        Parameters
        ----------
        url : str
            As for `configure`.
        **options : object
            As for `configure`.

        Returns
        -------
        T
            The device.

        Raises
        ------
        ConfigError
            As `configure`.
        MissingExtra
            As `configure`.
        """
        device, config = self.configure(url, **options)
        make: Any = device
        opened: T = make(config)
        return opened

    def usage(self) -> str:
        """How the URLs of the built-in kinds are written, on one line; imports nothing.

        Returns
        -------
        str
            Separated by commas.
        """
        return ", ".join(entry.usage for entry in self._entries.values())

    def problems(self) -> tuple[str, ...]:
        """What is wrong with installed plug-ins, one line each. Imports every plug-in.

        Returns
        -------
        tuple[str, ...]
            Empty where all is well.
        """
        lines = []
        for entry in self._discover().values():
            try:
                self.load(entry.scheme)
                self.config_type(entry.scheme)
            except EiferError as error:
                lines.append(str(error))
        return (*self._problems, *lines)

    def _split(self, url: str) -> tuple[str, str]:
        text = url.strip()
        name, _, rest = text.partition(":")
        if "?" in name:  # `realsense?fps=15`: no address, so no colon
            name, _, query = text.partition("?")
            rest = f"?{query}"
        scheme = name.strip().lower()
        if scheme in self._entries or scheme in self._discover() or scheme in self._broken:
            return scheme, rest
        hint = did_you_mean(scheme, self.schemes())
        if not hint and self.bare and "." in text:
            hint = f"; did you mean '{self.bare}:{text}'?"
        raise ConfigError(
            f"'{url}' names no {self.name}: unknown kind '{scheme}'{hint}; write {self.usage()}"
        )

    def _discover(self) -> dict[str, Entry]:
        """Plug-ins by scheme; what is wrong with their names is written down and logged once."""
        if self._plugins is None:
            from importlib.metadata import entry_points

            self._plugins = {}
            points: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                points.setdefault(point.name.lower(), []).append(point)
            for scheme, same in points.items():
                problem = self._name_problem(scheme, same)
                if problem:
                    self._problems.append(problem)
                    self._broken.setdefault(scheme, problem)
                    _log.warning("%s", problem)
                else:
                    self._plugins[scheme] = Entry(
                        scheme, same[0].value, f"{scheme}:...", "", "", _origin(same[0])
                    )
        return self._plugins

    def _name_problem(self, scheme: str, points: list[EntryPoint]) -> str:
        origins = " and ".join(sorted(_origin(point) for point in points))
        if scheme in self._entries:
            owner = self._entries[scheme].origin
            return (
                f"{origins} brings the {self.name} '{scheme}', a name that {owner} has; it is left out until its "
                f"entry point in '{self.group}' has another name"
            )
        if len(points) > 1:
            return (
                f"{origins} both bring the {self.name} '{scheme}'; uninstall one, or have its entry point in "
                f"'{self.group}' renamed"
            )
        if not _is_scheme(scheme):
            return (
                f"{origins} brings the {self.name} '{scheme}'; its entry point in '{self.group}' must be named in "
                "letters, digits, '-' and '_'"
            )
        return ""

    def _unusable(self, entry: Entry, error: Exception) -> str:
        return (
            f"{entry.origin}: its {self.name} '{entry.scheme}' ({entry.target}) cannot be imported "
            f"({type(error).__name__}: {error}); repair or uninstall {entry.origin}"
        )


def _is_scheme(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum() and name == name.lower() and name.isascii()


def _import(target: str) -> Any:
    module, _, name = target.partition(":")
    device = getattr(import_module(module), name.strip(), None) if name else None
    if not isinstance(device, type):
        raise TypeError(f"'{target}' does not name a class; write module:Class")
    return device


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _usage(device: type, scheme: str) -> str:
    config_type = getattr(device, "config_type", None)
    return getattr(config_type, "usage", "") or f"{scheme}:..."


def _what(device: type) -> str:
    return (device.__doc__ or "").strip().partition("\n")[0].rstrip(".")


CAMERAS: Registry[Source] = Registry(
    "camera",
    "eifer.cameras",
    Entry(
        "webcam",
        "eifer_ros.camera.webcam:WebcamSource",
        "webcam:0",
        "a V4L2 camera by number or path, MJPEG, always the newest picture",
    ),
    Entry(
        "video",
        "eifer_ros.camera.video:VideoSource",
        "video:FILE",
        "MP4, MOV, MKV, WebM or AVI; rotation metadata is honoured",
    ),
    Entry(
        "folder",
        "eifer_ros.camera.folder:FolderSource",
        "folder:DIR",
        "pictures of one size in natural order (`frame_9` before `frame_10`)",
    ),
    Entry(
        "realsense",
        "eifer_ros.camera.realsense:RealSenseSource",
        "realsense[:SERIAL or :FILE.db3]",
        "colour, depth aligned to it and intrinsics, from a RealSense camera or a recording of its SDK",
        "realsense",
    ),
    Entry("bag", "eifer_ros.recording.source:PictureReplay", "bag:DIR", "the pictures of an eifer recording"),
    Entry(
        "performer",
        "eifer_ros.simulation.performer:PerformerCamera",
        "performer:SEED",
        "the simulated participant, with the true face beside each picture",
    ),
    bare="video",
)
EMG_SOURCES: Registry[Source] = Registry(
    "EMG source",
    "eifer.sources",
    Entry(
        "lsl",
        "eifer_ros.emg.sources.lsl:LslSource",
        "lsl:NAME or lsl:type=EMG",
        "a Lab Streaming Layer stream, the usual interface in a lab",
        "lsl",
    ),
    Entry(
        "brainflow",
        "eifer_ros.emg.sources.brainflow:BrainFlowSource",
        "brainflow:BOARD",
        "any BrainFlow board (OpenBCI, ANT, FreeEEG, gForce ...), x86-64 only",
        "brainflow",
    ),
    Entry(
        "delsys",
        "eifer_ros.emg.sources.delsys:DelsysSource",
        "delsys:HOST",
        "Delsys Trigno through the SDK server on a Windows machine",
    ),
    Entry(
        "sessantaquattro",
        "eifer_ros.emg.sources.sessantaquattro:SessantaquattroSource",
        "sessantaquattro[:PORT]",
        "OT Bioelettronica Sessantaquattro and Sessantaquattro+, which connect to this machine",
    ),
    Entry(
        "file",
        "eifer_ros.recording.emg_file:FileSource",
        "file:PATH",
        "CSV, text or rosbag2; XDF, EDF and BDF with the extra `files`",
    ),
    Entry(
        "performer",
        "eifer_ros.simulation.performer:PerformerEmg",
        "performer:SEED",
        "the simulated participant, with the true muscle activity beside it",
    ),
    bare="file",
)


AVATARS: Registry[Any] = Registry(
    "avatar",
    "eifer.avatars",
    Entry(
        "vmc",
        "eifer_ros.avatar.vmc:VmcSender",
        "vmc://127.0.0.1:39539",
        'VSeeFace, VMagicMirror, Warudo and other VRM applications: 52 expressions ("Perfect Sync"), '
        "head and eye bones, tracking status",
    ),
    Entry(
        "vrchat",
        "eifer_ros.avatar.vrchat:VrchatSender",
        "vrchat://",
        "VRChat avatars with Unified Expressions: v2 shapes, folded ones (`JawX`, `SmileFrownLeft`, ...), "
        "eye tracking",
    ),
    Entry(
        "livelink",
        "eifer_ros.avatar.livelink:LiveLinkSender",
        "livelink://",
        "Unreal Engine, MetaHuman: 52 shapes, head and eye angles (rad), time code",
    ),
    Entry(
        "ifacialmocap",
        "eifer_ros.avatar.ifacialmocap:IFacialMocapSender",
        "ifacialmocap://",
        "Unity and Blender add-ons: 52 shapes in whole percents, head and eye angles in degrees, head position",
    ),
    Entry(
        "livelink-csv",
        "eifer_ros.avatar.livelink_csv:LiveLinkCsvSender",
        "livelink-csv:FILE",
        "a file as Live Link Face records it, for Unreal's importer, Blender and Furhat",
    ),
)
SERVO_DRIVERS: Registry[Any] = Registry(
    "servo driver",
    "eifer.servos",
    Entry(
        "dynamixel",
        "eifer_ros.animatronic.dynamixel:DynamixelDriver",
        "dynamixel",
        "Dynamixel X series over protocol 2.0; servos stop by themselves when commands stop coming",
        "animatronic",
    ),
    Entry(
        "pca9685",
        "eifer_ros.animatronic.pca9685:Pca9685Driver",
        "pca9685",
        "hobby servos on a PCA9685 board over I2C, which cannot measure positions",
        "animatronic",
    ),
)

ESTIMATORS: Registry[Any] = Registry(
    "estimator",
    "eifer.estimators",
    Entry(
        "auto",
        "eifer_ros.reconstruction.auto:AutoEstimator",
        "auto",
        "looks how much of the face is covered and takes the better of `sensors` and `landmarks`",
    ),
    Entry(
        "sensors",
        "eifer_ros.reconstruction.encoder.sensor_estimator:SensorEstimator",
        "sensors",
        "an encoder that learnt faces under electrodes, and the head model fitted to what it says",
    ),
    Entry(
        "landmarks",
        "eifer_ros.reconstruction.landmarks.landmark_estimator:LandmarkEstimator",
        "landmarks",
        "bare faces: 478 landmarks of a mesh, and the head model fitted to them",
    ),
    Entry(
        "smirk",
        "eifer_ros.reconstruction.encoder.smirk_estimator:SmirkEstimator",
        "smirk:FILE.onnx",
        "SMIRK's encoder, or one trained from it, on an imported FLAME head",
    ),
)


def registries() -> dict[str, Registry[Any]]:
    """All of them, by what a list of them is headed.

    Returns
    -------
    dict[str, Registry[object]]
        Registries by heading.
    """
    return {
        "cameras": CAMERAS,
        "emg": EMG_SOURCES,
        "avatars": AVATARS,
        "servos": SERVO_DRIVERS,
        "estimators": ESTIMATORS,
    }
