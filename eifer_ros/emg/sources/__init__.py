"""Where EMG samples come from: amplifiers on the network or on USB, and files."""

from .file import FileConfig, read_recording
from .open import SourceInfo, list_sources, open_emg, register
from .recording import EmgRecording
from .text_formats import write_csv

__all__ = [
    "EmgRecording",
    "FileConfig",
    "SourceInfo",
    "list_sources",
    "open_emg",
    "read_recording",
    "register",
    "write_csv",
]
