"""The shading kernel of the simulated camera: covered pixels in, linear light out, 8-bit picture written.

Surfaces are rasterised at twice the resolution each way. A pixel whose four samples see one smooth surface is
shaded once; an edge is shaded sample by sample and averaged in linear light, so edges are smooth and the
inside is cheap.

What differs from material to material (colour, relief, gloss) is found sample by sample and queued; light
falls on a whole queue at once, in loops over consecutive numbers that the compiler turns into vector
instructions.

Light: a few directional lights with wrapped diffuse reflection (more in red, a cheap stand-in for light that
travels under the skin: Green 2004, GPU Gems ch. 16), spherical-Gaussian highlights with Schlick's Fresnel
term, a sky-and-ground ambient term, all damped by the share of the surroundings a point sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...render.rasteriser import LAST, compiled, inverse_depth
from ...render.triples import cross, dot, minus, mixed, scaled, three, weighted
from .surface import CABLE, CLOTH, EYE, HAIR, PAD, SHADOW, SKIN, TEETH

ATTRIBUTES = 16
"""Per vertex: normal 0-2 (camera coordinates), u 3, v 4, openness 5, wrinkle weights 6-8, local 9-11, id 13;
16 fill a cache line.
"""

# look: one float32 vector per picture
L_AMBIENT = 0
L_GROUND = 3
L_UP = 6
L_EXPOSURE = 9
L_GLOSS = 10
L_ROUGH = 11
L_BUMP = 12
L_COVER = 13
L_COVER_COLOUR = 14
L_HAIR_COLOUR = 17
L_IRIS = 20
L_PUPIL = 23
L_SCLERA = 24
L_SEED = 27
L_AO = 28
L_WET = 29
L_UNIT = 30
L_MICRO = 31
L_TEETH = 32
L_NET = 35
LOOK_SIZE = 40


@compiled
def _hash(h: int) -> Any:
    h &= 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return float(h ^ (h >> 16)) * (1.0 / 4294967295.0)


@compiled
def value_noise(x: float, y: float, seed: int) -> float:
    """Smooth noise in 0..1 with unit cells."""
    left = np.floor(x)
    top = np.floor(y)
    fx = x - left
    fy = y - top
    fx = fx * fx * (3.0 - 2.0 * fx)
    fy = fy * fy * (3.0 - 2.0 * fy)
    cell = int(left) * 374761393 + int(top) * 668265263 + seed * 2147483647
    a = _hash(cell)
    b = _hash(cell + 374761393)
    c = _hash(cell + 668265263)
    d = _hash(cell + 374761393 + 668265263)
    noise: float = (a + (b - a) * fx) * (1.0 - fy) + (c + (d - c) * fx) * fy
    return noise


@compiled
def _step(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


QUEUE = 64
"""Samples that are lit together."""

# the queue: one float32 array, QUEUE numbers of each kind after the other
(
    Q_SX,  # where in the supersampled picture
    Q_SY,
    Q_WEIGHT,  # share of its pixel
    Q_WA,  # shares of the triangle's corners
    Q_WB,
    Q_WC,
    Q_NX,  # normal, of any length
    Q_NY,
    Q_NZ,
    Q_OPEN,  # share of the surroundings that is seen
    Q_L0,  # place on the template or on the thing
    Q_L1,
    Q_L2,
    Q_ACROSS,  # a thread's normal: this much of the above ...
    Q_LIFT,  # ... and this much of the direction to the camera
    Q_SIDED,  # 1 where the far side is dark inside (skin), 0 where the normal turns to the camera
    Q_DU,  # relief: slope to the subject's left, and down
    Q_DV,
    Q_TILT_X,  # added to the finished normal
    Q_TILT_Y,
    Q_FLESH,  # 1 where light turns red in creases
    Q_R,
    Q_G,
    Q_B,
    Q_GLOSS,
    Q_SHARP,
    Q_WRAP_R,
    Q_WRAP_G,
    Q_WRAP_B,
    # from here on made by _light: direction to the camera, light that falls, light that is mirrored, helpers
    Q_VX,
    Q_VY,
    Q_VZ,
    Q_DR,
    Q_DG,
    Q_DB,
    Q_SR,
    Q_SG,
    Q_SB,
    Q_DIRECT,
    Q_OVER_R,
    Q_OVER_G,
    Q_OVER_B,
    Q_FRESNEL,
) = (QUEUE * row for row in range(43))
_QUEUED = 43 * QUEUE

_0, _1, _2, _4, _HALF, _TINY, _EIGHTH = (np.float32(x) for x in (0.0, 1.0, 2.0, 4.0, 0.5, 1e-9, 0.125))
_QUARTER, _3_QUARTERS, _035, _014, _018, _SMALL = (
    np.float32(x) for x in (0.25, 0.75, 0.35, 0.14, 0.18, 1e-6)
)
_015, _042, _022, _016, _20, _LEAST = (np.float32(x) for x in (0.15, 0.42, 0.22, 0.16, 20.0, 1e-30))
_1_255, _1_65025, _18, _06, _12, _072, _092, _095 = (
    np.float32(x) for x in (1 / 255, 1 / 65025, 1.8, 0.6, 1.2, 0.72, 0.92, 0.95)
)
_062, _002, _26, _RATIO = (np.float32(x) for x in (0.62, 0.02, 26.0, 1.006))
_256, _1_256, _128, _1_65280 = (np.float32(x) for x in (256.0, 1 / 256, 128.0, 1 / 65280))
_BYTES = 0x00FF00FF00FF00FF


@compiled
def _get(q: Any, i: int, row: int) -> Any:
    """Three rows of the queue that follow each other."""
    return q[row + i], q[row + QUEUE + i], q[row + 2 * QUEUE + i]


@compiled
def _put(q: Any, i: int, row: int, triple: Any) -> None:
    """Three rows of the queue that follow each other."""
    q[row + i] = triple[0]
    q[row + QUEUE + i] = triple[1]
    q[row + 2 * QUEUE + i] = triple[2]


@compiled
def _shares(v: Any, corners: Any, x: Any, y: Any) -> Any:
    """Of the three corners (offsets into v) in the point (x, y)."""
    ax = v[corners[0]] - x
    ay = v[corners[0] + 1] - y
    bx = v[corners[1]] - x
    by = v[corners[1] + 1] - y
    cx = v[corners[2]] - x
    cy = v[corners[2] + 1] - y
    # straight in the picture: across a triangle of a few millimetres perspective does not show
    wa = bx * cy - cx * by
    wb = cx * ay - ax * cy
    wc = ax * by - bx * ay
    turned = _1 if wa + wb + wc > _0 else -_1
    wa = max(wa * turned, _0)
    wb = max(wb * turned, _0)
    wc = max(wc * turned, _0)
    return scaled((wa, wb, wc), _1 / max(wa + wb + wc, _LEAST))


@compiled
def _between(values: Any, corners: Any, shares: Any, k: int) -> Any:
    """Value k of the vertices at the corners (offsets into values), by their shares."""
    return dot(shares, (values[corners[0] + k], values[corners[1] + k], values[corners[2] + k]))


@compiled
def _light(q: Any, ray: Any, appearance: Any, lights: Any) -> None:
    """Linear colour of everything queued, times its weight, into Q_R, Q_G, Q_B. ray (4,) float32."""
    rx = ray[0]
    sx = ray[1]
    ry = ray[2]
    sy = ray[3]
    upwards = three(appearance, L_UP)
    for i in range(QUEUE):
        vx = -(q[Q_SX + i] * rx + sx)
        vy = -(q[Q_SY + i] * ry + sy)
        scale = _1 / np.sqrt(vx * vx + vy * vy + _1)
        view = (vx * scale, vy * scale, -scale)
        _put(q, i, Q_VX, view)
        across = q[Q_ACROSS + i]
        lift = q[Q_LIFT + i]
        nx, ny, nz = _get(q, i, Q_NX)
        normal = (nx * across + view[0] * lift, ny * across + view[1] * lift, nz * across + view[2] * lift)
        length = _1 / (np.sqrt(dot(normal, normal)) + _TINY)
        away = _1 if dot(normal, view) < _0 else _0
        sided = q[Q_SIDED + i]
        length = length * (_1 - _2 * away * (_1 - sided))
        # the inside of lips and lids, seen through an opening
        q[Q_OPEN + i] = q[Q_OPEN + i] * (_1 - _3_QUARTERS * away * sided)
        _put(q, i, Q_NX, scaled(normal, length))
    for i in range(QUEUE):
        normal = _get(q, i, Q_NX)
        du = q[Q_DU + i]
        dv = q[Q_DV + i]
        left = cross(upwards, normal)  # the subject's, along the surface
        left = scaled(left, _1 / (np.sqrt(dot(left, left)) + _SMALL))
        down = cross(left, normal)
        nx = normal[0] - du * left[0] - dv * down[0]
        ny = normal[1] - du * left[1] - dv * down[1]
        nz = normal[2] - du * left[2] - dv * down[2]
        length = _1 / (np.sqrt(nx * nx + ny * ny + nz * nz) + _TINY)
        _put(q, i, Q_NX, (nx * length + q[Q_TILT_X + i], ny * length + q[Q_TILT_Y + i], nz * length))
    occlusion = appearance[L_AO]
    sky = three(appearance, L_AMBIENT)
    ground = three(appearance, L_GROUND)
    for i in range(QUEUE):
        normal = _get(q, i, Q_NX)
        openness = min(max(_1 - occlusion * (_1 - q[Q_OPEN + i]), _0), _1)
        # blood colours the light that gets into creases of skin
        dim = q[Q_FLESH + i] * (_1 - openness)
        up = _HALF + _HALF * dot(normal, upwards)
        around = scaled(mixed(ground, sky, up), openness)
        _put(q, i, Q_DR, weighted(around, _1, _1 - _014 * dim, _1 - _018 * dim))
        _put(q, i, Q_SR, (_0, _0, _0))
        fresnel = _1 - max(dot(normal, _get(q, i, Q_VX)), _0)
        fresnel = fresnel * fresnel
        direct = _QUARTER * openness + _3_QUARTERS * openness * openness
        q[Q_DIRECT + i], q[Q_FRESNEL + i] = direct, q[Q_GLOSS + i] * direct * (_035 + _4 * fresnel * fresnel)
        q[Q_OVER_R + i], q[Q_OVER_G + i] = direct / (_1 + q[Q_WRAP_R + i]), direct / (_1 + q[Q_WRAP_G + i])
        q[Q_OVER_B + i] = direct / (_1 + q[Q_WRAP_B + i])
    for k in range(lights.shape[0]):
        towards = three(lights[k], 0)
        lr, lg, lb = three(lights[k], 3)
        for i in range(QUEUE):
            normal = _get(q, i, Q_NX)
            lit = dot(normal, towards)
            q[Q_DR + i] += lr * (max(lit + q[Q_WRAP_R + i], _0) * q[Q_OVER_R + i])
            q[Q_DG + i] += lg * (max(lit + q[Q_WRAP_G + i], _0) * q[Q_OVER_G + i])
            q[Q_DB + i] += lb * (max(lit + q[Q_WRAP_B + i], _0) * q[Q_OVER_B + i])
            vx, vy, vz = _get(q, i, Q_VX)
            middle = (towards[0] + vx, towards[1] + vy, towards[2] + vz)
            half = dot(normal, middle) / (np.sqrt(dot(middle, middle)) + _TINY)
            fall = _1 / (_1 + _EIGHTH * q[Q_SHARP + i] * max(_1 - half, _0))
            fall = fall * fall  # its eighth power is near exp(-sharp (1 - half)), and much cheaper
            fall = fall * fall
            spec = q[Q_FRESNEL + i] * fall * fall * min(max(lit, _0) * _4, _1)
            q[Q_SR + i] += lr * spec
            q[Q_SG + i] += lg * spec
            q[Q_SB + i] += lb * spec
    exposure = appearance[L_EXPOSURE]
    for i in range(QUEUE):
        weight = exposure * q[Q_WEIGHT + i]
        q[Q_R + i] = weight * (q[Q_R + i] * q[Q_DR + i] + q[Q_SR + i])
        q[Q_G + i] = weight * (q[Q_G + i] * q[Q_DG + i] + q[Q_SG + i])
        q[Q_B + i] = weight * (q[Q_B + i] * q[Q_DB + i] + q[Q_SB + i])


@compiled
def _corners(q: Any, hits: Any, count: int, faces: Any, v: Any, attr: Any) -> None:
    """For triangles found[:count]: shares of the corners, normal, openness and place.

    v (3 V,), attr (ATTRIBUTES V,).
    """
    for i in range(count):
        f = hits[i]
        _put(hits, i, QUEUE, faces[f])
    for i in range(count):
        corners = scaled(_get(hits, i, QUEUE), 3)
        _put(q, i, Q_WA, _shares(v, corners, q[Q_SX + i], q[Q_SY + i]))
    for i in range(count):
        corners = scaled(_get(hits, i, QUEUE), ATTRIBUTES)
        shares = _get(q, i, Q_WA)
        q[Q_NX + i] = _between(attr, corners, shares, 0)
        q[Q_NY + i] = _between(attr, corners, shares, 1)
        q[Q_NZ + i] = _between(attr, corners, shares, 2)
        q[Q_OPEN + i] = _between(attr, corners, shares, 5)
        q[Q_L0 + i] = _between(attr, corners, shares, 9)
        q[Q_L1 + i] = _between(attr, corners, shares, 10)
        q[Q_L2 + i] = _between(attr, corners, shares, 11)


def pack_skin(skin: Any) -> Any:
    """(H, W, 5) uint8 -> (H, W) int64 with a channel in each byte."""
    packed = np.zeros((*skin.shape[:2], 8), np.uint8)
    packed[..., :5] = skin
    return packed.view("<i8")[..., 0].astype(np.int64)


def pack_relief(bump: Any) -> Any:
    """(H, W, 9 or more) int8 -> (3, H, W) int32: slopes and depth of each set, 128 for 0."""
    height, width = bump.shape[:2]
    packed = np.zeros((3, height, width, 4), np.uint8)
    packed[..., :3] = bump.view(np.uint8)[..., :9].reshape(height, width, 3, 3).transpose(2, 0, 1, 3) ^ 0x80
    return packed.view("<i4")[..., 0].astype(np.int32)


@compiled
def _texels(texture: Any, y: int, x0: int, x1: int, shift: int, weights: Any) -> Any:
    """Every other byte of four neighbours, mixed by weights in 1/256."""
    return (
        (texture[y, x0] >> shift & _BYTES) * weights[0]
        + (texture[y, x1] >> shift & _BYTES) * weights[1]
        + (texture[y + 1, x0] >> shift & _BYTES) * weights[2]
        + (texture[y + 1, x1] >> shift & _BYTES) * weights[3]
    )


@compiled
def _skin(q: Any, hits: Any, count: int, attr: Any, tex: Any, bump: Any, appearance: Any) -> None:
    """Colour, relief and gloss of skin, hair on it and caps.

    tex, bump: as `pack_skin` and `pack_relief` make them.
    """
    height = np.float32(tex.shape[0])
    width = np.float32(tex.shape[1])
    columns = tex.shape[1]
    style = int(appearance[L_COVER])
    strength = appearance[L_BUMP] * np.float32(1.0 / 127.0)
    seed = int(appearance[L_SEED])
    for i in range(count):
        corners = scaled(_get(hits, i, QUEUE), ATTRIBUTES)
        shares = _get(q, i, Q_WA)
        # the skin map; u is unwrapped where a triangle crosses the back of the head
        ua = attr[corners[0] + 3]
        ub = attr[corners[1] + 3]
        uc = attr[corners[2] + 3]
        if ub - ua > _HALF:
            ub -= _1
        elif ua - ub > _HALF:
            ub += _1
        if uc - ua > _HALF:
            uc -= _1
        elif ua - uc > _HALF:
            uc += _1
        tx = dot(shares, (ua, ub, uc)) * width - _HALF + width
        ty = max(_between(attr, corners, shares, 4) * height - _HALF, _0)
        ty = min(ty, height - np.float32(1.001))
        ix = int(tx)
        iy = int(ty)
        fx = int((tx - np.float32(ix)) * _256 + _HALF)
        fy = int((ty - np.float32(iy)) * _256 + _HALF)
        x0 = ix - columns if ix >= columns else ix
        x0 = x0 - columns if x0 >= columns else x0
        x1 = 0 if x0 + 1 >= columns else x0 + 1
        # four channels of 8 bits are mixed by one multiplication: weights in 1/256, every other byte at a
        # time
        w11 = (fx * fy) >> 8
        w10 = fx - w11
        w01 = fy - w11
        w00 = 256 - fx - fy + w11
        weights = (w00, w10, w01, w11)
        even = _texels(tex, iy, x0, x1, 0, weights)
        odd = _texels(tex, iy, x0, x1, 8, weights)
        r = np.float32(even & 0xFFFF)
        g = np.float32(odd & 0xFFFF)
        bl = np.float32(even >> 16 & 0xFFFF)
        wet = np.float32(odd >> 16 & 0xFFFF) * _1_65280
        cover = np.float32(even >> 32 & 0xFFFF) * _1_65280
        root = scaled((r, g, bl), _1_65280)
        rgb = weighted(root, root[0], root[1], root[2])
        # relief: expression lines (three sets with weights from the vertices)
        du = _0
        dv = _0
        crease = _0
        for k in range(3):
            weight = _between(attr, corners, shares, 6 + k)
            if weight > _002:
                even = _texels(bump[k], iy, x0, x1, 0, weights)
                odd = _texels(bump[k], iy, x0, x1, 8, weights)
                du += weight * (np.float32(even & 0xFFFF) * _1_256 - _128)
                dv += weight * (np.float32(odd) * _1_256 - _128)
                crease += weight * (np.float32(even >> 16) * _1_256 - _128)
        q[Q_DU + i] = du * strength
        q[Q_DV + i] = dv * strength
        crease = min(max(-crease * strength, -_QUARTER), _062)
        _put(q, i, Q_R, weighted(rgb, _1 - _072 * crease, _1 - _092 * crease, _1 - _095 * crease))
        q[Q_GLOSS + i] = appearance[L_GLOSS] * (_1 + _18 * wet) * (_1 - _06 * max(crease, _0))
        q[Q_SHARP + i] = appearance[L_ROUGH] * (_1 + _12 * wet)
        q[Q_WRAP_R + i] = _042
        q[Q_DR + i] = cover
    if style == 0:
        return
    for i in range(count):
        cover = q[Q_DR + i]
        if cover <= 0.02:
            continue
        rgb = _get(q, i, Q_R)
        gloss = q[Q_GLOSS + i]
        wrap_r = q[Q_WRAP_R + i]
        # over the scalp: coordinates round the crown
        px, py, pz = _get(q, i, Q_L0)
        turn = np.arctan2(px, -pz + 0.5 * py)
        away = np.sqrt(px * px + pz * pz)
        if style in (1, 4):  # hair: streaks that run from the crown
            streak = 0.55 * value_noise(turn * 48.0, away * 90.0 + py * 60.0, seed) + 0.45 * value_noise(
                turn * 140.0, py * 160.0, seed + 1
            )
            tone = 0.35 + 1.15 * streak
            over = scaled(three(appearance, L_HAIR_COLOUR), tone)
            grown = (
                cover * (0.45 + 0.9 * value_noise(turn * 90.0, py * 420.0, seed + 2))
                if style == 1
                else _step(0.25, 0.6, cover)
            )
            grown = min(max(grown, 0.0), 1.0)
            gloss = gloss * (1.0 - grown) + 0.10 * streak * grown
        elif style == 2:  # netting over hair: two sets of threads
            tone = 0.45 + 0.9 * value_noise(turn * 60.0, py * 120.0, seed)
            over = scaled(three(appearance, L_HAIR_COLOUR), tone)
            wob = 0.6 * value_noise(px * 60.0, py * 60.0 + pz * 20.0, seed + 3)
            p1 = (turn * 0.05 + py * 0.75) * appearance[L_NET] + wob
            p2 = (turn * 0.05 - py * 0.75) * appearance[L_NET] + wob
            p3 = px * appearance[L_NET] * 0.9 + wob
            e1 = abs(p1 - np.floor(p1) - 0.5)
            e2 = abs(p2 - np.floor(p2) - 0.5)
            e3 = abs(p3 - np.floor(p3) - 0.5)
            thread = max(_step(0.30, 0.44, e1), _step(0.30, 0.44, e2), 0.8 * _step(0.30, 0.44, e3))
            thread = 0.30 + 0.70 * thread
            over = mixed(over, three(appearance, L_COVER_COLOUR), thread)
            grown = _step(0.3, 0.7, cover)
            gloss *= 1.0 - 0.7 * grown
            wrap_r += (0.2 - wrap_r) * grown
        else:  # a cap of cloth with folds
            fold = value_noise(turn * 7.0, py * 50.0, seed + 4) + 0.5 * value_noise(
                turn * 22.0, py * 130.0, seed + 5
            )
            tone = 0.72 + 0.34 * fold
            over = scaled(three(appearance, L_COVER_COLOUR), tone)
            grown = _step(0.4, 0.6, cover)
            gloss *= 1.0 - 0.8 * grown
            wrap_r += (0.2 - wrap_r) * grown
        _put(q, i, Q_R, mixed(rgb, over, grown))
        q[Q_GLOSS + i] = gloss
        q[Q_WRAP_R + i] = wrap_r


@compiled
def _thread(q: Any, hits: Any, count: int, material: Any, attr: Any, styles: Any, seed: int) -> None:
    """Colour and gloss of cables and hair: a round thread, whose attribute normal is the sideways direction."""
    for i in range(count):
        l0 = q[Q_L0 + i]
        l1 = q[Q_L1 + i]
        across = min(max(l0, -_1), _1)  # l0 runs -1..1 across
        q[Q_ACROSS + i] = across
        q[Q_LIFT + i] = np.sqrt(_1 - across * across)
        number = int(attr[ATTRIBUTES * hits[QUEUE + i] + 13])
        style = styles[number]
        rgb = three(style, 0)
        if material[hits[i]] == HAIR:
            rgb = scaled(rgb, np.float32(0.5 + value_noise(l0 * 3.0, l1 * 400.0, seed + number)))
        elif l1 < style[4] or (style[8] > _0 and l1 > style[8]):
            rgb = three(style, 5)  # insulation turns to a dark plug where it meets the pad
        _put(q, i, Q_R, rgb)
        q[Q_GLOSS + i] = style[3]
        q[Q_SHARP + i] = _26


@compiled
def _add(q: Any, place: Any, count: int, total: Any) -> None:
    """Lit samples onto their pixels."""
    for n in range(count):
        at = place[n]
        total[at, 0] += q[Q_R + n]
        total[at, 1] += q[Q_G + n]
        total[at, 2] += q[Q_B + n]


@compiled
def _put_skin(
    q: Any, hits: Any, place: Any, count: int, mesh: Any, maps: Any, lamps: Any, total: Any
) -> None:
    """A queue of skin onto its pixels."""
    faces, v, attr = mesh
    tex, bump = maps
    rays, appearance, lights = lamps
    _corners(q, hits, count, faces, v, attr)
    _skin(q, hits, count, attr, tex, bump, appearance)
    _light(q, rays, appearance, lights)
    _add(q, place, count, total)


@compiled
def _put_threads(
    q: Any, hits: Any, place: Any, count: int, mesh: Any, looks: Any, lamps: Any, total: Any
) -> None:
    """A queue of cables and hair onto its pixels."""
    faces, v, attr = mesh
    material, styles, seed = looks
    rays, appearance, lights = lamps
    _corners(q, hits, count, faces, v, attr)
    _thread(q, hits, count, material, attr, styles, seed)
    _light(q, rays, appearance, lights)
    _add(q, place, count, total)


@compiled
def project(v: Any, matrix: Any, first: int, end: int, out: Any) -> None:
    """Vertices first..end, camera coordinates (V, 3), to (V, 3) [u, v, depth] by a (3, 3) pinhole matrix
    without rounding in between.
    """
    for i in range(first, end):
        x = np.float64(v[i, 0])
        y = np.float64(v[i, 1])
        z = np.float64(v[i, 2])
        out[i, 0] = (matrix[0, 0] * x + matrix[0, 1] * y) / z + matrix[0, 2]
        out[i, 1] = matrix[1, 1] * y / z + matrix[1, 2]
        out[i, 2] = v[i, 2]


@compiled
def carry(points: Any, normals: Any, bulk: Any, turn: Any, shift: Any, v: Any, attr: Any) -> None:
    """Points of the head, raised by bulk (V,) along their normals, into v; normals into attr: both turned (3,
    3), points shifted (3,).
    """
    for i in range(points.shape[0]):
        normal = three(normals[i], 0)
        nx, ny, nz = scaled(normal, bulk[i])
        raised = (points[i, 0] + nx, points[i, 1] + ny, points[i, 2] + nz)
        for k in range(3):
            v[i, k] = dot(raised, turn[k]) + shift[k]
            attr[i, k] = dot(normal, turn[k])


@compiled
def paint(
    over: Any,
    head: Any,
    over_spans: Any,
    head_spans: Any,
    v: Any,
    faces: Any,
    material: Any,
    attr: Any,
    ray: Any,
    tex: Any,
    bump: Any,
    appearance: Any,
    lights: Any,
    styles: Any,
    decode: Any,
    encode: Any,
    background: Any,
    copying: bool,
    wipe: bool,
    box: Any,
    image: Any,
    mask: Any,
) -> None:
    """Write the picture inside box (top, bottom, left, right).

    over, head: (2 H, 2 W) samples of sensors and of the head alone, from `fill`, with their spans (2 H, 2);
    over may be empty (0, 0). image: holds the background, or, where copying, the picture without sensors:
    then pixels without sensors stay, and mask is 1 in the others. wipe: leave samples and spans of the box
    empty, while they are at hand. decode: (256,) 8 bit to linear; encode: (4096,) linear 0..1 to 8 bit.
    """
    queues = np.zeros((3, _QUEUED), np.float32)
    founds = np.zeros((2, 4 * QUEUE), np.uint32)
    places = np.zeros((3, QUEUE), np.uint32)
    skin = queues[0]
    thread = queues[1]
    other = queues[2]
    skin_hits = founds[0]
    thread_hits = founds[1]
    skin_place = places[0]
    thread_place = places[1]
    other_place = places[2]
    for i in range(QUEUE):
        skin[Q_ACROSS + i] = _1
        skin[Q_SIDED + i] = _1
        skin[Q_FLESH + i] = _1
        _put(skin, i, Q_WRAP_R, (_042, _022, _016))
        _put(thread, i, Q_WRAP_R, (_015, _015, _015))
        other[Q_ACROSS + i] = _1
    skins = 0
    threads_ = 0
    others = 0
    top_row = max(box[0], 0)
    end_row = max(box[1], 0)
    first = max(box[2], 0)
    end = max(box[3], 0)
    width = end - first
    rows = end_row - top_row
    total = np.zeros((rows * width, 3), np.float32)
    drawn = np.zeros(rows * width, np.uint8)
    tops = np.zeros(4, np.int64)
    unders = np.zeros(4, np.int64)
    rays = ray.astype(np.float32)
    points = v.reshape(-1)
    values = attr.reshape(-1)
    seed = int(appearance[L_SEED])
    upwards = three(appearance, L_UP)
    mesh = (faces, points, values)
    looks = (material, styles, seed)
    lamps = (rays, appearance, lights)
    covered = over.shape[0] > 0
    for y in range(top_row, end_row):
        upper = head[2 * y]
        lower = head[2 * y + 1]
        over_upper, over_lower = (over[2 * y], over[2 * y + 1]) if covered else (upper, lower)
        least = min(head_spans[2 * y, 0], head_spans[2 * y + 1, 0])
        most = max(head_spans[2 * y, 1], head_spans[2 * y + 1, 1])
        if covered:
            least = min(least, over_spans[2 * y, 0], over_spans[2 * y + 1, 0])
            most = max(most, over_spans[2 * y, 1], over_spans[2 * y + 1, 1])
        begin = max(least // 2, first)
        stop = min((most + 1) // 2, end)
        line = (y - top_row) * width - first
        for x in range(begin, stop):
            bp = upper[2 * x]
            bq = upper[2 * x + 1]
            bs = lower[2 * x]
            bt = lower[2 * x + 1]
            p = over_upper[2 * x]
            q = over_upper[2 * x + 1]
            s = over_lower[2 * x]
            t = over_lower[2 * x + 1]
            p = max(p, bp)
            q = max(q, bq)
            s = max(s, bs)
            t = max(t, bt)
            if (p | q | s | t) == 0:  # the picture holds the background already
                continue
            if copying:
                if p == bp and q == bq and s == bs and t == bt:
                    continue
                mask[y, x] = 1
            at = line + x
            drawn[at] = 1
            nearest = max(p, q, s, t)
            furthest = min(p, q, s, t)
            whole = furthest > 0
            if whole:
                fp = LAST - (p & LAST)
                fq = LAST - (q & LAST)
                fs = LAST - (s & LAST)
                ft = LAST - (t & LAST)
                one = (fp == fq) & (fp == fs) & (fp == ft)
                m = material[fp]
                # without branches: which of it holds changes from pixel to pixel
                flat = inverse_depth(nearest) < _RATIO * inverse_depth(furthest)
                whole = one | (flat & (m == material[fq]) & (m == material[fs]) & (m == material[ft]))
                if m >= PAD and whole and not one:  # two pads or two cables are an edge too
                    style = attr[faces[fp, 0], 13]
                    whole = (
                        style == attr[faces[fq, 0], 13]
                        and style == attr[faces[fs, 0], 13]
                        and style == attr[faces[ft, 0], 13]
                    )
                if whole and m == SKIN:  # most of a face
                    _put(skin, skins, Q_SX, (np.float32(2 * x) + _HALF, np.float32(2 * y) + _HALF, _1))
                    skin_hits[skins] = fp
                    skin_place[skins] = at
                    skins += 1
                    if skins == QUEUE:
                        _put_skin(skin, skin_hits, skin_place, skins, mesh, (tex, bump), lamps, total)
                        skins = 0
                    continue
            tops[0] = p
            tops[1] = q
            tops[2] = s
            tops[3] = t
            unders[0] = bp
            unders[1] = bq
            unders[2] = bs
            unders[3] = bt
            done = 0
            for k in range(1 if whole else 4):
                if done >> k & 1:
                    continue
                top = tops[k]
                under = unders[k]
                count = 4
                sx = np.float32(2 * x) + _HALF
                sy = np.float32(2 * y) + _HALF
                if not whole:  # samples of the same surface share one shading, at the first of them
                    count = 1
                    sx = np.float32(2 * x + k % 2)
                    sy = np.float32(2 * y + k // 2)
                    for n in range(k + 1, 4):
                        if _alike(top, tops[n], under, unders[n], material, attr, faces):
                            done |= 1 << n
                            count += 1
                left = _QUARTER * np.float32(
                    count
                )  # what shines through to the next layer: sensor, head, background
                for layer in range(2):
                    key = top if layer == 0 else under
                    if key == 0 or (layer == 1 and key == top):
                        break
                    f = LAST - (key & LAST)
                    m = material[f]
                    if m == SKIN:
                        _put(skin, skins, Q_SX, (sx, sy, left))
                        skin_hits[skins] = f
                        skin_place[skins] = at
                        skins += 1
                        if skins == QUEUE:
                            _put_skin(skin, skin_hits, skin_place, skins, mesh, (tex, bump), lamps, total)
                            skins = 0
                        left = _0
                        break
                    if m in (CABLE, HAIR):
                        _put(thread, threads_, Q_SX, (sx, sy, left))
                        thread_hits[threads_] = f
                        thread_place[threads_] = at
                        threads_ += 1
                        if threads_ == QUEUE:
                            _put_threads(
                                thread, thread_hits, thread_place, threads_, mesh, looks, lamps, total
                            )
                            threads_ = 0
                        left = _0
                        break
                    corners = three(faces[f], 0)
                    shares = _shares(points, scaled(corners, 3), sx, sy)
                    tips = scaled(corners, ATTRIBUTES)
                    own = attr[corners[0]]
                    l0 = _between(values, tips, shares, 9)
                    l1 = _between(values, tips, shares, 10)
                    open_ = _between(values, tips, shares, 5)
                    alpha = _1
                    if m == CLOTH:  # large and dark: no more than ambient light and folds
                        k = int(own[13])
                        up = 0.5 + 0.5 * dot(own, upwards)
                        tone = (
                            (0.8 + 0.4 * value_noise(l0 * 60.0, l1 * 60.0, seed + 13))
                            * up
                            * open_
                            * appearance[L_EXPOSURE]
                            * left
                        )
                        for e in range(3):
                            total[at, e] += (
                                styles[k, e] * tone * (appearance[L_AMBIENT + e] + 0.6 * lights[0, 3 + e])
                            )
                    elif m == SHADOW:
                        near = max(1.0 - (max(abs(l0), abs(l1)) - 1.0) / styles[int(own[13]), 11], 0.0)
                        alpha = np.float32(0.42 * near * near)
                    else:
                        nx = _between(values, tips, shares, 0)
                        ny = _between(values, tips, shares, 1)
                        nz = _between(values, tips, shares, 2)
                        normal = (nx, ny, nz)
                        l2 = _between(values, tips, shares, 11)
                        flesh = 0.0
                        tilt_x = 0.0
                        tilt_y = 0.0
                        wrap = (0.15, 0.15, 0.15)
                        if m == EYE:
                            length = np.sqrt(l0 * l0 + l1 * l1 + l2 * l2) + 1e-9
                            off = (
                                np.sqrt(l0 * l0 + l1 * l1) / length
                            )  # sine of the angle to the axis of the eye
                            if l2 < 0.0:
                                off = 1.0
                            rim = 0.475
                            hole = appearance[L_PUPIL]
                            turn = np.arctan2(l1, l0)
                            vein = value_noise(turn * 9.0 + off * 6.0, off * 14.0, seed + 7)
                            red = 0.16 * _step(0.50, 0.85, off) + 0.14 * max(vein - 0.55, 0.0)
                            sclera = three(appearance, L_SCLERA)
                            rgb = weighted(sclera, 1.0 - 0.6 * red, 1.0 - red * 1.5, 1.0 - red * 1.6)
                            if off < rim + 0.05:
                                share = min(off / rim, 1.0)
                                fibre = (
                                    0.60
                                    + 0.55 * value_noise(turn * 14.0 + 40.0, share * 2.5, seed + 8)
                                    + 0.25 * value_noise(turn * 34.0 + 90.0, share * 5.0, seed + 9)
                                )
                                ring = 1.0 - 0.75 * _step(0.78, 1.0, share)  # the dark limbus
                                inner = 1.0 + 0.5 * (1.0 - _step(hole / rim, hole / rim + 0.35, share))
                                iris = scaled(scaled(three(appearance, L_IRIS), fibre), ring)
                                iris = weighted(iris, inner, 1.0, 1.0)
                                rgb = mixed(iris, rgb, _step(rim - 0.03, rim + 0.05, off))
                                dark = 1.0 - _step(hole - 0.025, hole + 0.025, off)
                                r, g, bl = scaled(rgb, 1.0 - dark)
                                rgb = (r + 0.004 * dark, g + 0.004 * dark, bl + 0.004 * dark)
                            # lids and lashes shade the upper part of the ball
                            high = dot(normal, upwards) / (np.sqrt(dot(normal, normal)) + 1e-9)
                            vx = -(sx * ray[0] + ray[1])
                            vy = -(sy * ray[2] + ray[3])
                            if nx * vx + ny * vy - nz < 0.0:
                                high = -high
                            open_ = (0.15 + 0.75 * open_) * (1.0 - 0.70 * _step(-0.15, 0.45, high))
                            gloss = appearance[L_WET]
                            sharp = 900.0
                            wrap = (0.35, 0.25, 0.25)
                        elif m != PAD:
                            rgb = (l0, l1, l2)
                            if m == TEETH:
                                r, g, bl = three(appearance, L_TEETH)
                                rgb = weighted(rgb, r, g, bl)
                                gloss = 0.10
                                sharp = 90.0
                                open_ = 0.30 + 0.70 * open_
                            else:
                                gloss = 0.14
                                sharp = 60.0
                                flesh = 1.0
                                open_ = open_ * open_
                        else:
                            k = int(own[13])
                            # a square of white tape, paper or foam
                            edge = max(abs(l0), abs(l1))
                            size = styles[k, 3]
                            grain = value_noise(l0 * size * 900.0, l1 * size * 900.0, seed + k)
                            crinkle = value_noise(l0 * 3.0 + k, l1 * 3.0, seed + 11)
                            tone = 0.90 + 0.10 * grain + 0.12 * (crinkle - 0.5)
                            rim = _step(0.80, 1.05, edge)
                            rgb = scaled(three(styles[k], 0), tone)
                            # tape lets the skin shine through, most at the rim
                            alpha = np.float32(1.0 - styles[k, 10] * (0.35 + 0.65 * rim))
                            gloss = 0.05
                            sharp = 30.0
                            # the electrode under it: a grey disc with a dark ring and a metal snap, and a dot
                            dx = (l0 - styles[k, 4]) * size
                            dy = (l1 - styles[k, 5]) * size
                            d = np.sqrt(dx * dx + dy * dy) / styles[k, 6]
                            if d < 1.35:
                                ring = _step(1.35, 1.05, d)
                                rgb = weighted(rgb, 1.0 - 0.45 * ring, 1.0 - 0.40 * ring, 1.0 - 0.30 * ring)
                                alpha = max(alpha, np.float32(ring))
                                if d < 1.0:
                                    tilt = 0.55 * np.sin(d * 3.1416)
                                    tilt_x = tilt * dx / styles[k, 6]
                                    tilt_y = tilt * dy / styles[k, 6]
                                    metal = 0.30 + 0.32 * _step(0.75, 0.35, d)
                                    rgb = scaled((0.95, 0.97, 1.05), metal)
                                    gloss = 0.55
                                    sharp = 40.0
                            ex = (l0 - styles[k, 7]) * size
                            ey = (l1 - styles[k, 8]) * size
                            point = _step(0.0011, 0.0007, np.sqrt(ex * ex + ey * ey)) * styles[k, 9]
                            rgb = weighted(rgb, 1.0 - 0.9 * point, 1.0 - 0.85 * point, 1.0 - 0.55 * point)
                        _put(other, others, Q_SX, (sx, sy, left * alpha))
                        _put(other, others, Q_NX, normal)
                        _put(other, others, Q_R, rgb)
                        _put(other, others, Q_WRAP_R, wrap)
                        other[Q_OPEN + others] = open_
                        other[Q_FLESH + others] = flesh
                        other[Q_GLOSS + others] = gloss
                        other[Q_SHARP + others] = sharp
                        other[Q_TILT_X + others] = tilt_x
                        other[Q_TILT_Y + others] = tilt_y
                        other_place[others] = at
                        others += 1
                        if others == QUEUE:
                            _light(other, rays, appearance, lights)
                            _add(other, other_place, others, total)
                            others = 0
                    left *= _1 - alpha
                    if left < 0.008 * count:
                        break
                for e in range(3):
                    total[at, e] += left * decode[background[y, x, e]]
        if wipe and begin < stop:
            upper[2 * begin : 2 * stop] = 0
            lower[2 * begin : 2 * stop] = 0
            over_upper[2 * begin : 2 * stop] = 0
            over_lower[2 * begin : 2 * stop] = 0
            for row in (2 * y, 2 * y + 1):
                head_spans[row, 0] = head.shape[1]
                head_spans[row, 1] = 0
                if covered:
                    over_spans[row, 0] = head.shape[1]
                    over_spans[row, 1] = 0
    if skins:
        _put_skin(skin, skin_hits, skin_place, skins, mesh, (tex, bump), lamps, total)
    if threads_:
        _put_threads(thread, thread_hits, thread_place, threads_, mesh, looks, lamps, total)
    if others:
        _light(other, rays, appearance, lights)
        _add(other, other_place, others, total)
    for y in range(top_row, end_row):
        line = (y - top_row) * width - first
        for x in range(first, end):
            if drawn[line + x]:
                for e in range(3):
                    image[y, x, e] = encode[int(min(max(total[line + x, e], _0), _1) * 4095.0 + 0.5)]


@compiled
def _alike(top: int, other: int, under: int, beneath: int, material: Any, attr: Any, faces: Any) -> Any:
    """Whether two samples of a pixel see the same smooth surface."""
    if top & LAST == other & LAST and under & LAST == beneath & LAST:
        return True
    if top == 0 or other == 0:
        return False
    f = LAST - (top & LAST)
    g = LAST - (other & LAST)
    if material[f] != material[g]:
        return False
    if material[f] >= PAD:
        return attr[faces[f, 0], 13] == attr[faces[g, 0], 13]
    z = inverse_depth(top)
    return abs(z - inverse_depth(other)) < 0.008 * z


@compiled
def threads(
    points: Any, radius: Any, first: int, style: Any, openness: float, least: float, v: Any, attr: Any
) -> None:
    """Ribbons that face the camera along threads.

    points (N, S, 3) camera coordinates, radius (N, S) m; writes vertices `first` .. first + 2 N S into v
    (camera coordinates) and attr. style (N,) row of the style table; least: smallest half width as a share of
    depth, so that no thread falls between samples.
    """
    count = points.shape[0]
    steps = points.shape[1]
    for n in range(count):
        along = 0.0
        for s in range(steps):
            i = max(s - 1, 0)
            j = min(s + 1, steps - 1)
            here = three(points[n, s], 0)
            x, y, z = here
            sideways = cross(minus(points[n, j], points[n, i]), here)
            length = np.float64(np.sqrt(dot(sideways, sideways)))
            if length < 1e-12:
                sx, sy, sz = 1.0, 0.0, 0.0
            else:
                sx, sy, sz = sideways[0] / length, sideways[1] / length, sideways[2] / length
            if s > 0:
                gap = minus(here, points[n, s - 1])
                along += np.sqrt(dot(gap, gap))
            half = max(radius[n, s], least * z)
            for side in range(2):
                k = first + 2 * (n * steps + s) + side
                sign = 1.0 if side == 1 else -1.0
                v[k, 0] = x + sign * half * sx
                v[k, 1] = y + sign * half * sy
                v[k, 2] = z + sign * half * sz
                attr[k, 0] = sx
                attr[k, 1] = sy
                attr[k, 2] = sz
                attr[k, 5] = openness
                attr[k, 9] = sign
                attr[k, 10] = along
                attr[k, 13] = style[n]


def ribbon_faces(count: int, steps: int, first: int) -> Any:
    """Triangles (count * (steps - 1) * 2, 3) of what `threads` writes."""
    start = first + 2 * (np.arange(count)[:, None] * steps + np.arange(steps - 1)[None])
    a = start.reshape(-1)
    return (
        np.stack([np.stack([a, a + 1, a + 2], -1), np.stack([a + 1, a + 3, a + 2], -1)], 1)
        .reshape(-1, 3)
        .astype(np.int32)
    )
