"""One family of exceptions. Each message says what was wrong, where, and what would be right.

The command line prints the message on one line and exits with `exit_code`; it never prints a traceback for
these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EiferError(Exception):
    """Base of everything eifer raises for the person who reads it."""

    exit_code = 1


class InputError(EiferError):
    """A file, stream or value that came from outside is not usable (exit code 2)."""

    exit_code = 2


class ConfigError(EiferError):
    """A configuration key or value is wrong (exit code 3)."""

    exit_code = 3


class DeviceError(EiferError):
    """A camera, amplifier or servo is missing, was unplugged or answered wrongly (exit code 4)."""

    exit_code = 4


class MissingExtra(EiferError):
    """An optional library is not installed (exit code 5).

    Parameters
    ----------
    library : str
        The module that is missing.
    extra : str
        Extra of eifer_ros that brings it.
    purpose : str
        What needs it, the beginning of the sentence.
    """

    exit_code = 5

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        self.library = library
        self.extra = extra
        super().__init__(f"{purpose} needs the library '{library}': pip install 'eifer_ros[{extra}]'")


class ModelError(EiferError):
    """A head model, network or mapping file is missing, damaged or made for something else (exit code 6)."""

    exit_code = 6


class RecordingError(EiferError):
    """A bag cannot be read or written (exit code 7)."""

    exit_code = 7


class WireError(EiferError):
    """A message breaks its own contract: size, bound, NaN or range (exit code 8)."""

    exit_code = 8


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint like `; did you mean 'jawOpen'?`, or an empty string where nothing is near.

    Parameters
    ----------
    word : str
        What was written.
    choices : Iterable[str]
        What would be right.

    Returns
    -------
    str
        To be put behind a message.
    """
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
