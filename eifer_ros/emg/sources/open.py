"""One call that opens any EMG source (`open_emg("lsl:type=EMG")`), and one that says which are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl, unquote

from ...component import Source
from ...config import build
from ...errors import ConfigError, EiferError, did_you_mean
from . import brainflow, delsys, file, lsl, sessantaquattro
from .base import EmgSourceConfig

Opener = Callable[[str, dict[str, Any]], Source]
"""Makes a source from what stands after the colon and the options after the question mark."""


def _options(model: type[EmgSourceConfig], text: str, where: str) -> dict[str, Any]:
    """`a=1&b=x,y` as values for `model`: comma lists where the parameter is a tuple, short names as in the
    documentation.
    """
    values: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        key = {"rate": "rate_hz"}.get(key, key) if key not in model.model_fields else key
        field = model.model_fields.get(key)
        many = field is not None and "tuple" in str(field.annotation)
        number = field is not None and ("int" in str(field.annotation) or "Literal[" in str(field.annotation))
        parts = [part.strip() for part in value.split(",") if part.strip()] if many else value
        values[key] = (
            [int(p) if number and p.isdigit() else p for p in parts] if many else _plain(value, number)
        )
    if "" in values:
        raise ConfigError(f"{where}: options are written name=value")
    return values


def _plain(value: str, number: bool) -> Any:
    return int(value) if number and value.lstrip("-").isdigit() else value


def _lsl(rest: str, options: str) -> Source:
    where = f"lsl:{rest}"
    values = _options(lsl.LslConfig, options, where)
    return lsl.LslSource(build(lsl.LslConfig, ({"stream": rest} if rest else {}) | values, where))


def _brainflow(rest: str, options: str) -> Source:
    where = f"brainflow:{rest}"
    values = _options(brainflow.BrainFlowConfig, options, where)
    return brainflow.BrainFlowSource(
        build(brainflow.BrainFlowConfig, ({"board": rest} if rest else {}) | values, where)
    )


def _delsys(rest: str, options: str) -> Source:
    where = f"delsys:{rest}"
    values = _options(delsys.DelsysConfig, options, where)
    return delsys.DelsysSource(build(delsys.DelsysConfig, ({"host": rest} if rest else {}) | values, where))


def _sessantaquattro(rest: str, options: str) -> Source:
    where = f"sessantaquattro:{rest}"
    values = _options(sessantaquattro.SessantaquattroConfig, options, where)
    port = {"port": rest} if rest else {}
    return sessantaquattro.SessantaquattroSource(
        build(sessantaquattro.SessantaquattroConfig, port | values, where)
    )


def _file(rest: str, options: str) -> Source:
    where = f"file:{rest}"
    values = _options(file.FileConfig, options, where)
    return file.FileSource(build(file.FileConfig, {"path": unquote(rest)} | values, where))


_OPENERS: dict[str, Callable[[str, str], Source]] = {
    "lsl": _lsl,
    "brainflow": _brainflow,
    "delsys": _delsys,
    "sessantaquattro": _sessantaquattro,
    "file": _file,
}


def register(scheme: str, opener: Callable[[str, str], Source]) -> None:
    """Make `scheme:rest?options` known to `open_emg`; for sources that live elsewhere, such as the simulated
    participant.

    opener: called with what stands after the colon and what stands after the question mark.
    """
    if not scheme.isidentifier():
        raise ConfigError(f"'{scheme}' cannot name an EMG source; use letters, digits and underscores")
    _OPENERS[scheme] = opener


def open_emg(url: str) -> Source:
    """The source that `url` names: `lsl:NAME`, `lsl:type=EMG`, `brainflow:BOARD`, `delsys:HOST`,
    `sessantaquattro[:PORT]`, `file:PATH[?speed=1]`. Any parameter of the source can follow as
    `?name=value&name=value`.

    Nothing is opened yet: that is `setup` and `produce`. ConfigError: an unknown kind of source or parameter.
    """
    address, _, options = url.strip().partition("?")
    scheme, _, rest = address.partition(":")
    opener = _OPENERS.get(scheme.lower())
    if opener is None:
        kinds = ", ".join(sorted(_OPENERS))
        hint = did_you_mean(scheme.lower(), _OPENERS) or (
            f"; did you mean 'file:{url}'?" if "." in address else ""
        )
        raise ConfigError(f"'{url}' names no EMG source: '{scheme}' is not one of {kinds}{hint}")
    return opener(rest.strip(), options)


@dataclass(frozen=True)
class SourceInfo:
    """One kind of source, for `eifer doctor`.

    installed: its library is there and loads (always for sources that need none). extra: pip extra, empty
    where none is needed. adds: what the extra brings. found: streams or boards seen now. problem: why it
    cannot be used.
    """

    name: str
    installed: bool
    extra: str
    adds: str
    found: tuple[str, ...] = ()
    problem: str = ""


def list_sources(search_s: float = 1.0) -> tuple[SourceInfo, ...]:
    """What can deliver EMG on this machine now.

    search_s: how long to look for LSL streams; 0 does not look.
    """
    return (
        _probe(
            "lsl",
            "lsl",
            "Lab Streaming Layer streams, the usual interface in a lab",
            lambda: lsl.found(search_s) if search_s else (lsl.load() and ()),
        ),
        _probe(
            "brainflow",
            "brainflow",
            "OpenBCI, ANT, FreeEEG, gForce and other boards (x86-64 only)",
            brainflow.found,
        ),
        SourceInfo("delsys", True, "", "Delsys Trigno through its SDK server"),
        SourceInfo("sessantaquattro", True, "", "OT Bioelettronica Sessantaquattro and Sessantaquattro+"),
        _files(),
    )


def _probe(name: str, extra: str, adds: str, look: Callable[[], tuple[str, ...]]) -> SourceInfo:
    try:
        return SourceInfo(name, True, extra, adds, look())
    except EiferError as error:
        return SourceInfo(name, False, extra, adds, (), str(error))


def _files() -> SourceInfo:
    missing = [library for library in ("pyxdf", "pyedflib") if find_spec(library) is None]
    problem = (
        f"without {' and '.join(missing)} only text files and bags can be read: pip install 'eifer_ros[files]'"
        if missing
        else ""
    )
    return SourceInfo(
        "file", True, "files", "XDF (pyxdf) and EDF/BDF (pyedflib) beside CSV, text and bags", (), problem
    )
