"""Cameras on this machine, for `eifer doctor`."""

from __future__ import annotations

from ..errors import DeviceError, MissingExtra
from .devices import CameraDevice, webcams
from .realsense import devices, load_sdk


def list_devices() -> list[CameraDevice]:
    """Every webcam and RealSense found.

    A RealSense SDK that is missing or does not load is simply no source of cameras.
    """
    found = webcams()
    try:
        sdk = load_sdk()
    except (MissingExtra, DeviceError):
        return found
    return found + [CameraDevice(f"realsense:{serial}", name, "USB") for serial, name in devices(sdk)]
