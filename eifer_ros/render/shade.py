"""Pictures of a mesh: normals, one light, grey or coloured surfaces, and a mesh laid over a photograph."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..head import projection
from ..types import F32, I32, U8
from . import rasteriser as raster
from .triples import cross, dot, minus, scaled, three

GREY = (0.62, 0.62, 0.62)
SKIN = (0.80, 0.60, 0.50)
_LIGHT = np.array(
    [0.25, -0.55, -0.80]
)  # towards the light, camera coordinates: above, a little to the right, behind the camera


@raster.compiled
def add_normal(v: Any, a: int, b: int, c: int, normals: Any) -> None:
    """Add the normal of a triangle, as long as twice its area, to those of its corners, in place.

    Parameters
    ----------
    v : object
        (V, 3) positions.
    a, b, c : int
        Corners.
    normals : object
        (V, 3) sums so far.
    """
    nx, ny, nz = cross(minus(v[b], v[a]), minus(v[c], v[a]))
    for k in (a, b, c):
        normals[k, 0] += nx
        normals[k, 1] += ny
        normals[k, 2] += nz


@raster.compiled
def _accumulate(v: Any, faces: Any, normals: Any) -> None:
    for f in range(faces.shape[0]):
        add_normal(v, faces[f, 0], faces[f, 1], faces[f, 2], normals)
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 0.0:
            normals[i, 0] /= length
            normals[i, 1] /= length
            normals[i, 2] /= length


@raster.compiled
def _light(
    face_index: Any, bary: Any, faces: Any, normals: Any, colours: Any, light: Any, rays: Any, out: Any
) -> None:
    """Half-Lambert light, a weak highlight; a surface seen from behind is lit as if seen from the front."""
    height, width = face_index.shape
    for y in range(height):
        for x in range(width):
            f = face_index[y, x]
            if f < 0:
                continue
            a = faces[f, 0]
            b = faces[f, 1]
            c = faces[f, 2]
            shares = three(bary[y, x], 0)
            nx = dot(shares, (normals[a, 0], normals[b, 0], normals[c, 0]))
            ny = dot(shares, (normals[a, 1], normals[b, 1], normals[c, 1]))
            nz = dot(shares, (normals[a, 2], normals[b, 2], normals[c, 2]))
            normal = (nx, ny, nz)
            view = (rays[0] * x + rays[1], rays[2] * y + rays[3], 1.0)
            view = scaled(view, -1.0 / np.sqrt(dot(view, view)))  # towards the camera
            length = np.sqrt(dot(normal, normal)) + 1e-12
            if dot(normal, view) < 0.0:
                length = -length
            normal = (nx / length, ny / length, nz / length)
            soft = 0.5 + 0.5 * dot(normal, light)
            middle = (light[0] + view[0], light[1] + view[1], light[2] + view[2])
            half = dot(normal, middle) / (np.sqrt(dot(middle, middle)) + 1e-12)
            gloss = 0.12 * max(half, 0.0) ** 24
            bright = 0.20 + 1.00 * soft * soft
            for k in range(3):
                value = dot(shares, (colours[a, k], colours[b, k], colours[c, k])) * bright + gloss
                out[y, x, k] = np.uint8(min(max(value, 0.0), 1.0) * 255.0 + 0.5)


def vertex_normals(vertices: npt.ArrayLike, faces: npt.ArrayLike) -> F32:
    """Unit normals: area-weighted mean of the adjoining triangles.

    Parameters
    ----------
    vertices : array_like, shape (V, 3)
        Positions.
    faces : array_like, shape (F, 3)
        Triangles.

    Returns
    -------
    ndarray of float32, shape (V, 3)
        Unit vectors; 0 for a vertex of no triangle.
    """
    v = np.ascontiguousarray(vertices, np.float32)
    normals = np.zeros(v.shape, np.float32)
    _accumulate(v, np.ascontiguousarray(faces, np.int32), normals)
    return normals


def render(
    head_vertices: npt.ArrayLike,
    faces: npt.ArrayLike,
    K: npt.ArrayLike,
    head_pose: npt.ArrayLike,
    size: tuple[int, int],
    *,
    colour: npt.ArrayLike = GREY,
    light: npt.ArrayLike | None = None,
    background: U8 | None = None,
) -> U8:
    """A lit picture of a mesh in model coordinates.

    Parameters
    ----------
    head_vertices : array_like, shape (V, 3)
        Metres.
    faces : array_like, shape (F, 3)
        Triangles.
    K : array_like, shape (3, 3)
        Intrinsics, px.
    head_pose : array_like, shape (4, 4)
        From model coordinates to the camera's optical frame, m.
    size : tuple[int, int]
        Width and height, px.
    colour : array_like, shape (3,), optional
        For all or (V, 3) per vertex, RGB 0..1.
    light : array_like, shape (3,), optional
        Direction towards the light in camera coordinates.
    background : ndarray of uint8, shape (H, W, 3), optional
        Picture to draw on (copied), else black.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB.

    Raises
    ------
    InputError
        Colours or background do not fit.
    """
    width, height = size
    camera = np.asarray(projection.to_camera(np.asarray(head_vertices, np.float32), head_pose), np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    matrix = np.asarray(K, np.float64)
    face_index, bary, _ = raster.rasterise(
        projection.project(camera, np.eye(4), matrix), triangles, width, height
    )
    if background is not None and background.shape != (height, width, 3):
        raise InputError(f"the background has shape {background.shape}; it must be {(height, width, 3)}")
    out = np.zeros((height, width, 3), np.uint8) if background is None else np.array(background, np.uint8)
    colours = np.ascontiguousarray(np.broadcast_to(np.asarray(colour, np.float32), camera.shape))
    towards = _LIGHT if light is None else np.asarray(light, np.float64)
    towards = towards / np.linalg.norm(towards)
    rays = np.array(
        [1.0 / matrix[0, 0], -matrix[0, 2] / matrix[0, 0], 1.0 / matrix[1, 1], -matrix[1, 2] / matrix[1, 1]]
    )
    _light(face_index, bary, triangles, vertex_normals(camera, triangles), colours, towards, rays, out)
    return out


def overlay(
    image: U8,
    vertices: npt.ArrayLike,
    faces: npt.ArrayLike,
    K: npt.ArrayLike,
    head_pose: npt.ArrayLike,
    alpha: float = 0.5,
    *,
    wireframe: bool = False,
    colour: npt.ArrayLike = (0.45, 0.68, 0.90),
) -> U8:
    """A picture with the mesh laid over it.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    vertices : array_like, shape (V, 3)
        Metres, model coordinates.
    faces : array_like, shape (F, 3)
        Triangles.
    K : array_like, shape (3, 3)
        Intrinsics, px.
    head_pose : array_like, shape (4, 4)
        From model coordinates to the camera's optical frame, m.
    alpha : float, optional
        0 picture only .. 1 mesh only, on pixels the mesh covers.
    wireframe : bool, optional
        Draw the edges of visible triangles, not surfaces.
    colour : array_like, shape (3,), optional
        RGB 0..1.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        A new picture.

    Raises
    ------
    InputError
        `alpha` is outside 0..1.
    """
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha is {alpha}; it must lie in 0..1")
    height, width = image.shape[:2]
    if wireframe:
        mesh = _wires(image, vertices, np.ascontiguousarray(faces, np.int32), K, head_pose, colour)
    else:
        mesh = render(vertices, faces, K, head_pose, (width, height), colour=colour, background=image)
    return np.asarray(cv2.addWeighted(image, 1.0 - alpha, mesh, alpha, 0.0), np.uint8)


def _wires(
    image: U8,
    vertices: npt.ArrayLike,
    faces: I32,
    K: npt.ArrayLike,
    head_pose: npt.ArrayLike,
    colour: npt.ArrayLike,
) -> U8:
    height, width = image.shape[:2]
    pixels = projection.project(np.asarray(vertices, np.float32), head_pose, K)
    face_index, _, _ = raster.rasterise(pixels, faces, width, height)
    visible = faces[np.unique(face_index[face_index >= 0])]
    edges = np.unique(
        np.sort(np.concatenate([visible[:, [0, 1]], visible[:, [1, 2]], visible[:, [2, 0]]]), axis=1), axis=0
    )
    lines = np.round(pixels[edges][:, :, :2] * 16).astype(np.int32)  # 4 fractional bits
    ink = [round(float(value) * 255) for value in np.asarray(colour, np.float64).reshape(-1)[:3]]
    return np.asarray(cv2.polylines(np.array(image), list(lines), False, ink, 1, cv2.LINE_AA, 4), np.uint8)
