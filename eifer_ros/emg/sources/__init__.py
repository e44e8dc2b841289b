"""Where EMG samples come from: amplifiers on the network or on USB, and files."""

from .open import SourceInfo, list_sources, open_emg, register

__all__ = ["SourceInfo", "list_sources", "open_emg", "register"]
