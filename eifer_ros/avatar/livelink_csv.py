"""CSV as Epic's Live Link Face application writes it: Unreal's importer, Blender add-ons, Furhat's gesture
tool.

`Timecode,BlendShapeCount,EyeBlinkLeft,...,TongueOut,HeadYaw,...,RightEyeRoll`; time code HH:MM:SS:FF.mmm
(UTC) with FF frames of `fps`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TextIO
from urllib.parse import unquote

from ..config import parameter
from ..errors import InputError
from .face import AvatarFace
from .livelink import ANGLES, ORDER, timecode, values
from .sender import Sender, SenderConfig

HEADER = ",".join(["Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in ORDER), *ANGLES])


class LiveLinkCsvConfig(SenderConfig):
    """Parameters of a Live Link Face file."""

    url_field: ClassVar[str] = "path"

    path: str = parameter("", "the file; it must not exist")
    fps: int = parameter(60, "frames per second of the time code", unit="Hz", ge=1, le=1000)

    @classmethod
    def from_address(cls, address: str) -> dict[str, Any]:
        """The path, whose `%3F` and the like stand for the character."""
        path = unquote(address.removeprefix("//"))
        if not path:
            raise ValueError("it names no file")
        return {"path": path}


class LiveLinkCsvSender(Sender):
    """One line per face in a file that is never overwritten.

    Parameters
    ----------
    config : LiveLinkCsvConfig
        Parameters.

    Raises
    ------
    InputError
        The file exists or cannot be written.
    """

    config_type: ClassVar[type[LiveLinkCsvConfig]] = LiveLinkCsvConfig
    protocol = "livelink-csv"

    def __init__(self, config: LiveLinkCsvConfig) -> None:
        super().__init__(config)
        self._path = config.path
        self.fps = config.fps
        path = Path(config.path).expanduser()
        try:
            self._file: TextIO | None = path.open("x", encoding="ascii", newline="")
        except FileExistsError:
            raise InputError(f"{path} exists already; choose another name") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
        self._file.write(HEADER + "\r\n")

    @property
    def target(self) -> str:
        """The file."""
        return f"{self.protocol}:{self._path}"

    def _deliver(self, face: AvatarFace) -> bool:
        if self._file is None:
            return False
        frame, fraction = timecode(face.stamp, self.fps)
        seconds, within = divmod(frame, self.fps)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        thousandths = min(int(fraction * 1000), 999)
        code = f"{hour:02d}:{minute:02d}:{second:02d}:{within:02d}.{thousandths:03d}"
        line = f"{code},61," + ",".join([f"{value:.8f}" for value in values(face).tolist()]) + "\r\n"
        try:
            self._file.write(line)
        except OSError as error:
            self.last_error = f"cannot be written ({error.strerror or error})"
            return False
        self.bytes += len(line)
        return True

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
