"""Where EMG samples come from: amplifiers on the network or on USB, and files."""

from .file import FileConfig, read_recording
from .recording import EmgRecording
from .text_formats import write_csv

__all__ = [
    "EmgRecording",
    "FileConfig",
    "read_recording",
    "write_csv",
]
