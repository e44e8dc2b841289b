"""The graph of every command: built from one config file and the command's options, run in one process.

The file is the one that ROS reads. What combination of senses and outputs takes which components stands in
`graph.py`; here they become objects with their parameters, and run as they must: offline, as fast as they can
be used and with the same result each time, or by the clock where a device, an avatar or a robot is at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from . import graph, topics
from .component import Component, Source
from .config import Config, ConfigFile, parameter
from .errors import ConfigError, InputError, did_you_mean
from .hosts.local import LocalHost
from .types import Stamp

C = TypeVar("C", bound=Component)
OWN_SECTIONS = ("pipeline", "viewer", "recorder")
"""Sections of a config file that commands read beside the graph."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


class PipelineConfig(Config):
    """Section `pipeline` of a config file."""

    components: tuple[str, ...] = parameter(
        (), "what runs, where the command's options do not say it: camera, emg_source, reconstruction, ..."
    )


@dataclass(frozen=True)
class Request:
    """What a command combines: any subset makes a graph.

    Parameters
    ----------
    camera : str or None
        URL of the camera.
    emg : str or None
        URL of the EMG source.
    reconstruct : bool
        Read the face in the pictures; False only passes them on.
    process : bool
        Make muscle activity of raw EMG; False only passes it on.
    mapping, calibration : Path or None
        Files of the participant.
    head_model : str or None
        Name or file of the head model.
    micro : bool or None
        Spot micro-expressions; None leaves it to the config file.
    avatars : tuple of str
        Addresses of avatars.
    animatronic : str or None
        Joint map.
    armed : bool
        Let the animatronic face move from the start.
    """

    camera: str | None = None
    emg: str | None = None
    reconstruct: bool = True
    process: bool = True
    mapping: Path | None = None
    calibration: Path | None = None
    head_model: str | None = None
    micro: bool | None = None
    avatars: tuple[str, ...] = ()
    animatronic: str | None = None
    armed: bool = False

    def components(self, micro: bool = False) -> list[str]:
        """The components that this takes; `micro` as the config file has it, where the request leaves it open.

        Parameters
        ----------
        micro : bool, optional
            As the config file has it, where the request leaves it open.

        Returns
        -------
        list[str]
            Names, in the order of the graph.
        """
        sources = [
            name for name, url in (("camera", self.camera), ("emg_source", self.emg)) if url is not None
        ]
        return graph.chain(
            source=sources,
            camera=self.camera is not None and self.reconstruct,
            emg=self.emg is not None and self.process,
            mapping=self.mapping is not None,
            micro=micro if self.micro is None else self.micro,
            avatar=bool(self.avatars),
            animatronic=self.animatronic is not None,
        )

    def values(self) -> dict[str, dict[str, Any]]:
        """Parameters by component; None where the request says nothing.

        Returns
        -------
        dict[str, dict[str, object]]
            Values by key, by component.
        """
        head_model = self.head_model
        return {
            "camera": {"url": self.camera},
            "emg_source": {"url": self.emg},
            "emg": {"calibration": _text(self.calibration)},
            "reconstruction": {"micro": self.micro, "head_model": head_model},
            "mapping": {"mapping": _text(self.mapping)},
            "spotter": {"head": head_model},
            "avatar": {"targets": self.avatars or None, "head_model": head_model},
            "animatronic": {
                "joint_map": self.animatronic,
                "armed": self.armed or None,
                "head_model": head_model,
            },
        }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def component_class(name: str) -> type[Component]:
    """The class of a component, imported now.

    Parameters
    ----------
    name : str
        Of `graph.COMPONENTS`.

    Returns
    -------
    type[Component]
        The class.

    Raises
    ------
    ConfigError
        There is no such component; names the nearest.
    """
    target = graph.COMPONENTS.get(name)
    if target is None:
        hint = did_you_mean(name, graph.COMPONENTS)
        raise ConfigError(f"unknown component '{name}'{hint}; components are {', '.join(graph.COMPONENTS)}")
    module, _, attribute = target.partition(":")
    component_type: type[Component] = getattr(import_module(module), attribute)
    return component_type


def config_type(name: str) -> type[Config]:
    """The parameters of a component.

    Parameters
    ----------
    name : str
        Of `graph.COMPONENTS`.

    Returns
    -------
    type[Config]
        A config.

    Raises
    ------
    ConfigError
        There is no such component; names the nearest.
    """
    parameters: Any = component_class(name).config_type
    model: type[Config] = parameters
    return model


def open_config(path: Path | None) -> ConfigFile:
    """A config file for any graph.

    Parameters
    ----------
    path : Path or None
        The file; None for no file.

    Returns
    -------
    ConfigFile
        Its sections.

    Raises
    ------
    ConfigError
        A section that no component has, or a file that cannot be read.
    """
    return ConfigFile.read(path, {**graph.COMPONENTS, **dict.fromkeys(OWN_SECTIONS)})


@dataclass
class Pipeline:
    """A graph in one process.

    Parameters
    ----------
    host : LocalHost
        The graph; `tap` it before `setup`.
    file : ConfigFile
        The config file that it was built from.
    notes : list of str
        What a user should know: sections of the file that nothing here reads.
    """

    host: LocalHost
    file: ConfigFile = field(default_factory=ConfigFile)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_config(
        cls,
        config: ConfigFile | Path | None = None,
        components: Request | Sequence[str] = (),
        values: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        instances: Mapping[str, Component] | None = None,
        optional: Iterable[str] = OWN_SECTIONS,
    ) -> Pipeline:
        """Build a graph; nothing is opened yet.

        Parameters
        ----------
        config : ConfigFile, Path or None
            Config file, or its path; None for defaults.
        components : Request or sequence of str
            What to combine, or the names of the components. Empty takes the section `pipeline` of the file.
        values : mapping, optional
            Parameters by component, over those of the file and the request; None leaves them as they are.
        instances : mapping, optional
            Components that exist already, by name; one of the same name is not built.
        optional : iterable of str
            Sections of the file that the caller reads itself.

        Returns
        -------
        Pipeline
            Built, not set up.

        Raises
        ------
        ConfigError
            Unknown section, key, component, or a value that is not allowed; or no section of the file is about
            this graph.
        InputError
            There is nothing to run.
        """
        file = config if isinstance(config, ConfigFile) else open_config(config)
        instances = dict(instances or {})
        request = components if isinstance(components, Request) else None
        names = list(_names(file, components, bool(instances)))
        if not names and not instances:
            raise InputError(
                "nothing to run: give a camera, an EMG source, or a config file whose section 'pipeline' names "
                "components"
            )
        named = [name for name in names if name not in instances]
        if named:
            file.require([*named, *instances, *optional])
        overrides = request.values() if request is not None else {}
        merged = {
            name: overrides.get(name, {})
            | {k: v for k, v in (values or {}).get(name, {}).items() if v is not None}
            for name in named
        }
        if "spotter" in named and not _has_emg((*names, *instances)):
            merged["spotter"].setdefault("use_emg", False)
        configs = {name: file.config(name, config_type(name), **merged[name]) for name in named}
        _check_shared(file, configs.values())
        by_clock = any(name in graph.HARDWARE_OUTPUTS for name in (*names, *instances))
        parts: dict[str, Component] = dict(instances)
        for name, parameters in configs.items():
            parts[name] = make_component(name, parameters)
        _check_outputs(parts)
        pipeline = cls(assemble(parts), file)
        if by_clock:
            pipeline.run_by_clock()
        pipeline.notes += _unread(file, {*names, *instances, *optional})
        return pipeline

    # ---- what is in it --------------------------------------------------------------------------------------

    @property
    def sources(self) -> list[Source]:
        """The components that make items of their own accord."""
        return [part for part in self.host.components.values() if isinstance(part, Source)]

    @property
    def live(self) -> bool:
        """Whether it runs by the clock: a device is at one end, or something that somebody watches."""
        return any(source.live for source in self.sources)

    def get(self, kind: type[C]) -> C | None:
        """The component of a class; None where the graph has none.

        Parameters
        ----------
        kind : type[C]
            Its class.

        Returns
        -------
        C or None
            None where the graph has none.
        """
        return next((part for part in self.host.components.values() if isinstance(part, kind)), None)

    def run_by_clock(self) -> None:
        """Let files play at their own pace, because a person, an avatar or a robot follows them.

        Call before `setup`.
        """
        for source in self.sources:
            source.pace()

    # ---- running --------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Load models, open devices. What was opened is released where something fails. Raises EiferError."""
        try:
            self.host.setup()
        except BaseException:
            self.host.close()
            raise

    def run(
        self,
        *,
        duration_s: float | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], Stamp] = time.time_ns,
    ) -> None:
        """Run until every source has ended, `stop` is set, or time is up.

        Parameters
        ----------
        duration_s : float, optional
            Seconds on the clock (live) or by the stamps (offline); None without end.
        stop : threading.Event, optional
            Set it from another thread to end the run.
        clock : Callable[[], Stamp], optional
            Host clock, ns since the epoch.

        Raises
        ------
        Exception
            The first error of a source or component.
        """
        if self.live:
            self.host.run_live(duration_s=duration_s, clock=clock, stop=stop)
        else:
            self.host.run_offline(duration_s=duration_s, stop=stop)

    def close(self) -> None:
        """Release everything; safe to call twice."""
        self.host.close()


def assemble(components: Mapping[str, Component], *, outside: Iterable[str] = ()) -> LocalHost:
    """The graph of some components, in the order of the flow.

    Parameters
    ----------
    components : mapping
        Components by name; those that `graph.COMPONENTS` does not name come first.
    outside : iterable of str
        Ports whose items come from elsewhere, such as ROS topics.

    Returns
    -------
    LocalHost
        Not set up yet.

    Raises
    ------
    ConfigError
        A component listens to nothing that is made.
    """
    place = {name: number for number, name in enumerate(graph.COMPONENTS)}
    ordered = sorted(components, key=lambda name: place.get(name, -1))
    return LocalHost({name: components[name] for name in ordered}, outside=outside)


def make_component(name: str, parameters: Config) -> Component:
    """A component of `graph.COMPONENTS` with its parameters, not set up yet.

    Parameters
    ----------
    name : str
        Of `graph.COMPONENTS`.
    parameters : Config
        Of its `config_type`.

    Returns
    -------
    Component
        Not set up.
    """
    component_type: Any = component_class(name)
    component: Component = component_type(parameters)
    return component


def _names(file: ConfigFile, components: Request | Sequence[str], complete: bool) -> Sequence[str]:
    """Names of the components; `complete`: the caller brings what makes items."""
    if not isinstance(components, Request):
        return components if components or complete else file.config("pipeline", PipelineConfig).components
    micro = bool(file.sections.get("reconstruction", {}).get("micro", file.shared.get("micro", False)))
    listed = () if complete else file.config("pipeline", PipelineConfig).components
    return [*dict.fromkeys((*components.components(micro), *listed))]


def _check_shared(file: ConfigFile, configs: Iterable[Config]) -> None:
    """Raise ConfigError for a value under `/**` that no component has a parameter for."""
    read = {name for config in configs for name in type(config).model_fields} | {"use_sim_time"}
    if set(file.shared) <= read:
        return
    fields = {name for component in graph.COMPONENTS for name in config_type(component).model_fields}
    for key in file.shared:
        if key not in fields | read:
            hint = did_you_mean(key, fields)
            raise ConfigError(f"{file.path}: /**: no component has a parameter '{key}'{hint}")


def _check_outputs(parts: Mapping[str, Component]) -> None:
    """Raise InputError where an avatar or a robot would wait for a face that nothing makes."""
    produced = {port.name for component in parts.values() for port in component.outputs}
    for name in graph.HARDWARE_OUTPUTS:
        if name in parts and not produced.intersection(topics.faces()):
            raise InputError(
                f"{name}: nothing in this graph makes a face to follow; give --camera, or --mapping FILE beside "
                "--emg"
            )


def _has_emg(names: Iterable[str]) -> bool:
    return any(name in ("emg", "replay", "performer") for name in names)


def _unread(file: ConfigFile, read: set[str]) -> list[str]:
    """What a config file says about parts that are not in this graph, in one line."""
    idle = [name for name in file.sections if name not in read]
    if not idle:
        return []
    return [f"{file.path}: nothing in this graph reads the sections {', '.join(idle)}"]
