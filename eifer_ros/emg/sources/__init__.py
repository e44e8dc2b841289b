"""Where EMG samples come from: amplifiers on the network or on USB, and files."""

from .recording import EmgRecording
from .text_formats import write_csv

__all__ = [
    "EmgRecording",
    "write_csv",
]
