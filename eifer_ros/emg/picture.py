"""An electrode scheme drawn on a head, to hold beside the participant."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..head import projection
from ..head.model import HeadModel
from ..render import shade
from ..types import F64, U8
from .montage import Scheme, contact_points

_RIGHT = (214, 96, 77)
_LEFT = (67, 147, 195)
_MIDDLE = (120, 120, 120)
_INK = (45, 45, 45)


def scheme_picture(scheme: Scheme, head: HeadModel, width: int = 900) -> U8:
    """(H, W, 3) uint8 RGB: the head from in front with both contacts of each channel, its name, and a list of
    muscles.

    The subject's right is on the left of the picture and red, the left blue. Raises InputError for a scheme
    without positions.
    """
    if not np.isfinite(scheme.positions).all():
        raise InputError(f"scheme '{scheme.name}' has no electrode positions to draw")
    listed = any(muscle != name for muscle, name in zip(scheme.muscles, scheme.names, strict=True))
    side = width if not listed else int(width / 1.45)
    intrinsics, pose, vertices = _view(head, scheme, side)
    ground = np.full((side, side, 3), 250, np.uint8)
    face = shade.render(
        vertices, head.faces, intrinsics, pose, (side, side), colour=(0.86, 0.83, 0.80), background=ground
    )
    contacts = contact_points(scheme, head)
    pixels = projection.project(contacts.reshape(-1, 3), pose, intrinsics).reshape(-1, 2, 3)
    canvas = np.full((side, width if listed else side, 3), 250, np.uint8)
    canvas[:, :side] = face
    _draw_contacts(canvas, scheme, pixels)
    _draw_names(canvas, scheme, pixels, side)
    if listed:
        _draw_list(canvas, scheme, side)
    return canvas


def save_scheme_picture(scheme: Scheme, head: HeadModel, out: Path, width: int = 900) -> None:
    """`scheme_picture` as a PNG or JPEG file."""
    image = scheme_picture(scheme, head, width)
    try:
        written = cv2.imwrite(str(out), image[:, :, ::-1])
    except cv2.error as error:
        raise InputError(f"{out}: not a picture format that can be written ({error.err})") from None
    if not written:
        raise InputError(f"{out}: the picture cannot be written")


def _view(head: HeadModel, scheme: Scheme, side: int) -> tuple[F64, F64, F64]:
    """Camera matrix, head pose and vertices so that the face fills the picture, from far enough to look flat."""
    sites = contact_points(scheme, head).reshape(-1, 3)
    face = head.template[head.regions["face"]] if "face" in head.regions else sites
    low = np.minimum(face.min(axis=0), sites.min(axis=0))
    high = np.maximum(face.max(axis=0), sites.max(axis=0))
    span = 1.12 * float((high - low)[:2].max())
    pose = projection.facing_pose(1.5, centre=(low + high) / 2)
    focal = side * 1.5 / span
    middle = (side - 1) / 2
    intrinsics = np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
    return intrinsics, pose, np.asarray(head.template, np.float64)


def _colour(scheme: Scheme, index: int) -> tuple[int, int, int]:
    x = scheme.positions[index, 0]
    return _MIDDLE if abs(x) < 1 else _RIGHT if x < 0 else _LEFT


def _draw_contacts(canvas: U8, scheme: Scheme, pixels: F64) -> None:
    for index, pair in enumerate(pixels):
        first, second = (tuple(round(float(v) * 8) for v in point[:2]) for point in pair)
        colour = _colour(scheme, index)
        if first != second:
            cv2.line(canvas, first, second, colour, 2, cv2.LINE_AA, 3)
        for point in {first, second}:
            cv2.circle(canvas, point, 7 * 8, (255, 255, 255), -1, cv2.LINE_AA, 3)
            cv2.circle(canvas, point, 5 * 8, colour, -1, cv2.LINE_AA, 3)


def _draw_names(canvas: U8, scheme: Scheme, pixels: F64, side: int) -> None:
    """Each name beside its site, on the side with most room among the other sites and names."""
    scale = 0.5
    taken = [point[:2] for pair in pixels for point in pair]
    for index, pair in enumerate(pixels):
        centre = pair[:, :2].mean(axis=0)
        (wide, high), _ = cv2.getTextSize(scheme.names[index], cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        reach = float(np.abs(pair[0, :2] - pair[1, :2]).max() / 2)
        best = centre
        room = -np.inf
        for angle in np.arange(16) * np.pi / 8:
            way = np.array([np.cos(angle), np.sin(angle)])
            for extra in (12.0, 20.0):
                place = centre + way * (np.array([wide, high]) / 2 + reach * np.abs(way) + extra)
                gap = min(_gap(place, wide, high, other) for other in taken) - 0.5 * extra
                if gap > room and (np.abs(place - side / 2) < side / 2 - wide).all():
                    best = place
                    room = gap
        taken += [best + np.array([dx * wide / 2, 0.0]) for dx in (-1, 0, 1)]
        corner = (round(float(best[0]) - wide / 2), round(float(best[1]) + high / 2))
        patch = canvas[corner[1] - high - 4 : corner[1] + 5, corner[0] - 4 : corner[0] + wide + 5]
        patch[:] = patch // 4 + 186
        cv2.putText(
            canvas, scheme.names[index], corner, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA
        )


def _gap(place: F64, wide: float, high: float, other: F64) -> float:
    """Distance from a text box centred at `place` to a point."""
    outside = np.maximum(np.abs(np.asarray(other) - place) - np.array([wide, high]) / 2, 0.0)
    return float(min(np.hypot(*outside), 24.0))


def _draw_list(canvas: U8, scheme: Scheme, left: int) -> None:
    step = min(26.0, (canvas.shape[0] - 70) / len(scheme.names))
    cv2.putText(canvas, scheme.name, (left + 14, 34), cv2.FONT_HERSHEY_SIMPLEX, 0.65, _INK, 1, cv2.LINE_AA)
    for row, (name, muscle) in enumerate(zip(scheme.names, scheme.muscles, strict=True)):
        y = round(64 + row * step)
        cv2.circle(canvas, (left + 20, y - 4), 4, _colour(scheme, row), -1, cv2.LINE_AA)
        text = f"{name}  {muscle.replace('_', ' ')}" if muscle != name else name
        cv2.putText(canvas, text, (left + 32, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
