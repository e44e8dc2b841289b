"""The shading kernel of the simulated camera: covered pixels in, linear light out, 8-bit picture written.

Surfaces are rasterised at twice the resolution each way. A pixel whose four samples see one smooth surface is shaded once; an
edge is shaded sample by sample and averaged in linear light, so edges are smooth and the inside is cheap.

Light: a few directional lights with wrapped diffuse reflection (more in red, a cheap stand-in for light that travels under the
skin: Green 2004, GPU Gems ch. 16), spherical-Gaussian highlights with Schlick's Fresnel term, a sky-and-ground ambient term, all
damped by the share of the surroundings a point sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..head.raster import compiled
from .surface import CABLE, CLOTH, EYE, HAIR, MOUTH, PAD, SHADOW, SKIN, TEETH

ATTRIBUTES = 14
"""Per vertex: normal 0-2 (camera coordinates), u 3, v 4, openness 5, wrinkle weights 6-8, local 9-11, side/hair 12, id 13."""

# look: one float32 vector per picture
(
    L_AMBIENT,
    L_GROUND,
    L_UP,
    L_EXPOSURE,
    L_GLOSS,
    L_ROUGH,
    L_BUMP,
    L_COVER,
    L_COVER_COLOUR,
    L_HAIR_COLOUR,
    L_IRIS,
    L_PUPIL,
    L_SCLERA,
    L_SEED,
    L_AO,
    L_WET,
    L_UNIT,
    L_MICRO,
    L_TEETH,
    L_NET,
    L_SHADE,
    L_BLOOD,
) = (0, 3, 6, 9, 10, 11, 12, 13, 14, 17, 20, 23, 24, 27, 28, 29, 30, 31, 32, 35, 36, 37)
LOOK_SIZE = 40


@compiled
def _hash(x: int, y: int, z: int) -> float:
    h = (x * 374761393 + y * 668265263 + z * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return float(h ^ (h >> 16)) / 4294967295.0 if h ^ (h >> 16) >= 0 else 0.0


@compiled
def value_noise(x: float, y: float, seed: int) -> float:
    """Smooth noise in 0..1 with unit cells."""
    ix, iy = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
    a, b = _hash(ix, iy, seed), _hash(ix + 1, iy, seed)
    c, d = _hash(ix, iy + 1, seed), _hash(ix + 1, iy + 1, seed)
    return (a + (b - a) * fx) * (1.0 - fy) + (c + (d - c) * fx) * fy


@compiled
def _step(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@compiled
def paint(
    index: Any,
    base: Any,
    inverse_depth: Any,
    v: Any,
    faces: Any,
    material: Any,
    attr: Any,
    ray: Any,
    tex: Any,
    bump: Any,
    look: Any,
    lights: Any,
    styles: Any,
    decode: Any,
    encode: Any,
    background: Any,
    same: Any,
    box: Any,
    image: Any,
    mask: Any,
) -> None:
    """Write the picture inside box (top, bottom, left, right).

    index, inverse_depth: (2 H, 2 W) what each sample sees; base: what it would see of the head alone. Where the two agree in all
    four samples the pixel is copied from `same`, the picture without sensors, unless that is empty. mask: 1 where a sensor shows.
    decode: (256,) 8 bit to linear; encode: (4096,) linear 0..1 to 8 bit.
    """
    colour, total, back = np.zeros(3), np.zeros(3), np.zeros(3)
    copying = same.shape[0] > 0
    seed = int(look[L_SEED])
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            p, q, s, t = index[2 * y, 2 * x], index[2 * y, 2 * x + 1], index[2 * y + 1, 2 * x], index[2 * y + 1, 2 * x + 1]
            bp, bq, bs, bt = base[2 * y, 2 * x], base[2 * y, 2 * x + 1], base[2 * y + 1, 2 * x], base[2 * y + 1, 2 * x + 1]
            if copying and p == bp and q == bq and s == bs and t == bt:
                image[y, x, 0], image[y, x, 1], image[y, x, 2] = same[y, x, 0], same[y, x, 1], same[y, x, 2]
                continue
            if copying:
                mask[y, x] = 1
            if p < 0 and q < 0 and s < 0 and t < 0:
                image[y, x, 0], image[y, x, 1], image[y, x, 2] = background[y, x, 0], background[y, x, 1], background[y, x, 2]
                continue
            for k in range(3):
                back[k] = decode[background[y, x, k]]
            whole = p >= 0 and q >= 0 and s >= 0 and t >= 0
            if whole and not (p == q and p == s and p == t):
                zp, zq = inverse_depth[2 * y, 2 * x], inverse_depth[2 * y, 2 * x + 1]
                zs, zt = inverse_depth[2 * y + 1, 2 * x], inverse_depth[2 * y + 1, 2 * x + 1]
                m = material[p]
                whole = (
                    max(zp, zq, zs, zt) < 1.006 * min(zp, zq, zs, zt)
                    and m == material[q]
                    and m == material[s]
                    and m == material[t]
                )
                if whole and m >= PAD:  # two pads or two cables are an edge too
                    k = attr[faces[p, 0], 13]
                    whole = k == attr[faces[q, 0], 13] and k == attr[faces[s, 0], 13] and k == attr[faces[t, 0], 13]
            total[0] = total[1] = total[2] = 0.0
            done = 0
            for k in range(1 if whole else 4):
                if done >> k & 1:
                    continue
                i, j = 2 * y + k // 2, 2 * x + k % 2
                top, under = index[i, j], base[i, j]
                count, sx, sy = 4, 2.0 * x + 0.5, 2.0 * y + 0.5
                if not whole:  # samples of the same surface share one shading, at the first of them
                    count, sx, sy = 1, float(j), float(i)
                    for n in range(k + 1, 4):
                        other, beneath = index[2 * y + n // 2, 2 * x + n % 2], base[2 * y + n // 2, 2 * x + n % 2]
                        if top == other and under == beneath:
                            alike = True
                        elif top < 0 or other < 0 or material[top] != material[other]:
                            alike = False
                        elif material[top] >= PAD:
                            alike = attr[faces[top, 0], 13] == attr[faces[other, 0], 13]
                        else:
                            z, w = inverse_depth[i, j], inverse_depth[2 * y + n // 2, 2 * x + n % 2]
                            alike = abs(z - w) < 0.008 * z
                        if alike:
                            done |= 1 << n
                            count += 1
                left = 0.25 * count  # what shines through to the next layer: sensor, head, background
                for layer in range(2):
                    f = top if layer == 0 else under
                    if f < 0 or (layer == 1 and f == top):
                        break
                    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                    ax, ay, bx, by, cx, cy = v[a, 0], v[a, 1], v[b, 0], v[b, 1], v[c, 0], v[c, 1]
                    turned = np.sign((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
                    # weights straight in the picture: across a triangle of a few millimetres perspective does not show
                    wa = max(((bx - sx) * (cy - sy) - (cx - sx) * (by - sy)) * turned, 0.0)
                    wb = max(((cx - sx) * (ay - sy) - (ax - sx) * (cy - sy)) * turned, 0.0)
                    wc = max(((ax - sx) * (by - sy) - (bx - sx) * (ay - sy)) * turned, 0.0)
                    norm = 1.0 / (wa + wb + wc)
                    wa, wb, wc = wa * norm, wb * norm, wc * norm
                    m = material[f]
                    alpha = 1.0
                    if m == CLOTH:  # large and dark: no more than ambient light and folds
                        k = int(attr[a, 13])
                        up = 0.5 + 0.5 * (attr[a, 0] * look[L_UP] + attr[a, 1] * look[L_UP + 1] + attr[a, 2] * look[L_UP + 2])
                        l0 = wa * attr[a, 9] + wb * attr[b, 9] + wc * attr[c, 9]
                        l1 = wa * attr[a, 10] + wb * attr[b, 10] + wc * attr[c, 10]
                        open_ = wa * attr[a, 5] + wb * attr[b, 5] + wc * attr[c, 5]
                        tone = (0.8 + 0.4 * value_noise(l0 * 60.0, l1 * 60.0, seed + 13)) * up * open_ * look[L_EXPOSURE]
                        for e in range(3):
                            colour[e] = styles[k, e] * tone * (look[L_AMBIENT + e] + 0.6 * lights[0, 3 + e])
                    elif m == SHADOW:
                        l0 = wa * attr[a, 9] + wb * attr[b, 9] + wc * attr[c, 9]
                        l1 = wa * attr[a, 10] + wb * attr[b, 10] + wc * attr[c, 10]
                        near = max(1.0 - (max(abs(l0), abs(l1)) - 1.0) / styles[int(attr[a, 13]), 11], 0.0)
                        colour[0] = colour[1] = colour[2] = 0.0
                        alpha = 0.42 * near * near
                    else:
                        # towards the camera
                        vx, vy, vz = -(sx * ray[0] + ray[1]), -(sy * ray[2] + ray[3]), -1.0
                        scale = 1.0 / np.sqrt(vx * vx + vy * vy + 1.0)
                        vx, vy, vz = vx * scale, vy * scale, vz * scale
                        nx = wa * attr[a, 0] + wb * attr[b, 0] + wc * attr[c, 0]
                        ny = wa * attr[a, 1] + wb * attr[b, 1] + wc * attr[c, 1]
                        nz = wa * attr[a, 2] + wb * attr[b, 2] + wc * attr[c, 2]
                        open_ = wa * attr[a, 5] + wb * attr[b, 5] + wc * attr[c, 5]
                        l0 = wa * attr[a, 9] + wb * attr[b, 9] + wc * attr[c, 9]
                        l1 = wa * attr[a, 10] + wb * attr[b, 10] + wc * attr[c, 10]
                        l2 = wa * attr[a, 11] + wb * attr[b, 11] + wc * attr[c, 11]
                        gloss, sharp = 0.0, 20.0
                        wrap_r, wrap_g, wrap_b = 0.15, 0.15, 0.15
                        r, g, bl = 0.5, 0.5, 0.5
                        if m in (CABLE, HAIR):
                            # a round thread: the attribute normal is the sideways direction, l0 runs -1..1 across
                            across = min(max(l0, -1.0), 1.0)
                            lift = np.sqrt(1.0 - across * across)
                            nx, ny, nz = nx * across + vx * lift, ny * across + vy * lift, nz * across + vz * lift
                        length = 1.0 / (np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
                        nx, ny, nz = nx * length, ny * length, nz * length
                        facing = nx * vx + ny * vy + nz * vz
                        if facing < 0.0 and m != SKIN:
                            nx, ny, nz, facing = -nx, -ny, -nz, -facing

                        if m == SKIN:
                            # the skin map; u is unwrapped where a triangle crosses the back of the head
                            ua, ub, uc = attr[a, 3], attr[b, 3], attr[c, 3]
                            if ub - ua > 0.5:
                                ub -= 1.0
                            elif ua - ub > 0.5:
                                ub += 1.0
                            if uc - ua > 0.5:
                                uc -= 1.0
                            elif ua - uc > 0.5:
                                uc += 1.0
                            height, width = tex.shape[0], tex.shape[1]
                            tx = (wa * ua + wb * ub + wc * uc) * width - 0.5 + width
                            ty = min(
                                max((wa * attr[a, 4] + wb * attr[b, 4] + wc * attr[c, 4]) * height - 0.5, 0.0), height - 1.001
                            )
                            ix, iy = int(tx), int(ty)
                            fx, fy = tx - ix, ty - iy
                            x0 = ix - width if ix >= width else ix
                            x0 = x0 - width if x0 >= width else x0
                            x1 = 0 if x0 + 1 >= width else x0 + 1
                            w00, w10, w01, w11 = (1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy
                            r = w00 * tex[iy, x0, 0] + w10 * tex[iy, x1, 0] + w01 * tex[iy + 1, x0, 0] + w11 * tex[iy + 1, x1, 0]
                            g = w00 * tex[iy, x0, 1] + w10 * tex[iy, x1, 1] + w01 * tex[iy + 1, x0, 1] + w11 * tex[iy + 1, x1, 1]
                            bl = w00 * tex[iy, x0, 2] + w10 * tex[iy, x1, 2] + w01 * tex[iy + 1, x0, 2] + w11 * tex[iy + 1, x1, 2]
                            wet = (
                                w00 * tex[iy, x0, 3] + w10 * tex[iy, x1, 3] + w01 * tex[iy + 1, x0, 3] + w11 * tex[iy + 1, x1, 3]
                            )
                            cover = (
                                w00 * tex[iy, x0, 4] + w10 * tex[iy, x1, 4] + w01 * tex[iy + 1, x0, 4] + w11 * tex[iy + 1, x1, 4]
                            )
                            r, g, bl = r * r * (1.0 / 65025.0), g * g * (1.0 / 65025.0), bl * bl * (1.0 / 65025.0)
                            wet, cover = wet * (1.0 / 255.0), cover * (1.0 / 255.0)
                            # relief: expression lines (two sets with weights from the vertices) and pores
                            wrinkle_a = wa * attr[a, 6] + wb * attr[b, 6] + wc * attr[c, 6]
                            wrinkle_b = wa * attr[a, 7] + wb * attr[b, 7] + wc * attr[c, 7]
                            wrinkle_c = wa * attr[a, 8] + wb * attr[b, 8] + wc * attr[c, 8]
                            du, dv, crease = 0.0, 0.0, 0.0
                            for k in range(3):
                                weight = wrinkle_a if k == 0 else (wrinkle_b if k == 1 else wrinkle_c)
                                if weight > 0.02:
                                    q = 3 * k
                                    du += weight * (
                                        w00 * bump[iy, x0, q]
                                        + w10 * bump[iy, x1, q]
                                        + w01 * bump[iy + 1, x0, q]
                                        + w11 * bump[iy + 1, x1, q]
                                    )
                                    dv += weight * (
                                        w00 * bump[iy, x0, q + 1]
                                        + w10 * bump[iy, x1, q + 1]
                                        + w01 * bump[iy + 1, x0, q + 1]
                                        + w11 * bump[iy + 1, x1, q + 1]
                                    )
                                    crease += weight * (
                                        w00 * bump[iy, x0, q + 2]
                                        + w10 * bump[iy, x1, q + 2]
                                        + w01 * bump[iy + 1, x0, q + 2]
                                        + w11 * bump[iy + 1, x1, q + 2]
                                    )
                            strength = look[L_BUMP] / 127.0
                            du, dv = du * strength, dv * strength
                            if du != 0.0 or dv != 0.0:
                                ux, uy, uz = look[L_UP], look[L_UP + 1], look[L_UP + 2]
                                tux, tuy, tuz = (
                                    uy * nz - uz * ny,
                                    uz * nx - ux * nz,
                                    ux * ny - uy * nx,
                                )  # to the subject's left along the surface
                                tl = 1.0 / (np.sqrt(tux * tux + tuy * tuy + tuz * tuz) + 1e-6)
                                tux, tuy, tuz = tux * tl, tuy * tl, tuz * tl
                                tvx, tvy, tvz = (
                                    tuy * nz - tuz * ny,
                                    tuz * nx - tux * nz,
                                    tux * ny - tuy * nx,
                                )  # down along the surface
                                nx, ny, nz = nx - du * tux - dv * tvx, ny - du * tuy - dv * tvy, nz - du * tuz - dv * tvz
                                length = 1.0 / (np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
                                nx, ny, nz = nx * length, ny * length, nz * length
                            crease = min(max(-crease * strength, -0.25), 0.62)
                            r, g, bl = r * (1.0 - 0.72 * crease), g * (1.0 - 0.92 * crease), bl * (1.0 - 0.95 * crease)
                            wrap_r, wrap_g, wrap_b = 0.42, 0.22, 0.16
                            gloss = look[L_GLOSS] * (1.0 + 1.8 * wet) * (1.0 - 0.6 * max(crease, 0.0))
                            sharp = look[L_ROUGH] * (1.0 + 1.2 * wet)
                            style = int(look[L_COVER])
                            if cover > 0.02 and style > 0:
                                # over the scalp: coordinates round the crown
                                px, py, pz = l0, l1, l2
                                turn = np.arctan2(px, -pz + 0.5 * py)
                                away = np.sqrt(px * px + pz * pz)
                                if style in (1, 4):  # hair: streaks that run from the crown
                                    streak = 0.55 * value_noise(turn * 48.0, away * 90.0 + py * 60.0, seed) + 0.45 * value_noise(
                                        turn * 140.0, py * 160.0, seed + 1
                                    )
                                    tone = 0.35 + 1.15 * streak
                                    hr, hg, hb = (
                                        look[L_HAIR_COLOUR] * tone,
                                        look[L_HAIR_COLOUR + 1] * tone,
                                        look[L_HAIR_COLOUR + 2] * tone,
                                    )
                                    grown = (
                                        cover * (0.45 + 0.9 * value_noise(turn * 90.0, py * 420.0, seed + 2))
                                        if style == 1
                                        else _step(0.25, 0.6, cover)
                                    )
                                    grown = min(max(grown, 0.0), 1.0)
                                    gloss = gloss * (1.0 - grown) + 0.10 * streak * grown
                                elif style == 2:  # netting over hair: two sets of threads
                                    tone = 0.45 + 0.9 * value_noise(turn * 60.0, py * 120.0, seed)
                                    hr, hg, hb = (
                                        look[L_HAIR_COLOUR] * tone,
                                        look[L_HAIR_COLOUR + 1] * tone,
                                        look[L_HAIR_COLOUR + 2] * tone,
                                    )
                                    wob = 0.6 * value_noise(px * 60.0, py * 60.0 + pz * 20.0, seed + 3)
                                    p1, p2 = (
                                        (turn * 0.05 + py * 0.75) * look[L_NET] + wob,
                                        (turn * 0.05 - py * 0.75) * look[L_NET] + wob,
                                    )
                                    p3 = px * look[L_NET] * 0.9 + wob
                                    e1, e2, e3 = (
                                        abs(p1 - np.floor(p1) - 0.5),
                                        abs(p2 - np.floor(p2) - 0.5),
                                        abs(p3 - np.floor(p3) - 0.5),
                                    )
                                    thread = max(_step(0.30, 0.44, e1), _step(0.30, 0.44, e2), 0.8 * _step(0.30, 0.44, e3))
                                    thread = 0.30 + 0.70 * thread
                                    cr, cg, cb = look[L_COVER_COLOUR], look[L_COVER_COLOUR + 1], look[L_COVER_COLOUR + 2]
                                    hr, hg, hb = hr + (cr - hr) * thread, hg + (cg - hg) * thread, hb + (cb - hb) * thread
                                    grown = _step(0.3, 0.7, cover)
                                    gloss *= 1.0 - 0.7 * grown
                                    wrap_r += (0.2 - wrap_r) * grown
                                else:  # a cap of cloth with folds
                                    fold = value_noise(turn * 7.0, py * 50.0, seed + 4) + 0.5 * value_noise(
                                        turn * 22.0, py * 130.0, seed + 5
                                    )
                                    tone = 0.72 + 0.34 * fold
                                    hr, hg, hb = (
                                        look[L_COVER_COLOUR] * tone,
                                        look[L_COVER_COLOUR + 1] * tone,
                                        look[L_COVER_COLOUR + 2] * tone,
                                    )
                                    grown = _step(0.4, 0.6, cover)
                                    gloss *= 1.0 - 0.8 * grown
                                    wrap_r += (0.2 - wrap_r) * grown
                                r, g, bl = r + (hr - r) * grown, g + (hg - g) * grown, bl + (hb - bl) * grown
                            if facing < 0.0:  # the inside of lips and lids, seen through an opening
                                open_ *= 0.25
                        elif m == EYE:
                            length = np.sqrt(l0 * l0 + l1 * l1 + l2 * l2) + 1e-9
                            off = np.sqrt(l0 * l0 + l1 * l1) / length  # sine of the angle to the axis of the eye
                            if l2 < 0.0:
                                off = 1.0
                            rim, hole = 0.475, look[L_PUPIL]
                            turn = np.arctan2(l1, l0)
                            vein = value_noise(turn * 9.0 + off * 6.0, off * 14.0, seed + 7)
                            red = 0.16 * _step(0.50, 0.85, off) + 0.14 * max(vein - 0.55, 0.0)
                            r, g, bl = (
                                look[L_SCLERA] * (1.0 - 0.6 * red),
                                look[L_SCLERA + 1] * (1.0 - red * 1.5),
                                look[L_SCLERA + 2] * (1.0 - red * 1.6),
                            )
                            if off < rim + 0.05:
                                share = min(off / rim, 1.0)
                                fibre = (
                                    0.60
                                    + 0.55 * value_noise(turn * 14.0 + 40.0, share * 2.5, seed + 8)
                                    + 0.25 * value_noise(turn * 34.0 + 90.0, share * 5.0, seed + 9)
                                )
                                ring = 1.0 - 0.75 * _step(0.78, 1.0, share)  # the dark limbus
                                inner = 1.0 + 0.5 * (1.0 - _step(hole / rim, hole / rim + 0.35, share))
                                ir, ig, ib = (
                                    look[L_IRIS] * fibre * ring * inner,
                                    look[L_IRIS + 1] * fibre * ring,
                                    look[L_IRIS + 2] * fibre * ring,
                                )
                                edge = _step(rim - 0.03, rim + 0.05, off)
                                r, g, bl = ir + (r - ir) * edge, ig + (g - ig) * edge, ib + (bl - ib) * edge
                                dark = 1.0 - _step(hole - 0.025, hole + 0.025, off)
                                r, g, bl = (
                                    r * (1.0 - dark) + 0.004 * dark,
                                    g * (1.0 - dark) + 0.004 * dark,
                                    bl * (1.0 - dark) + 0.004 * dark,
                                )
                            # lids and lashes shade the upper part of the ball
                            high = nx * look[L_UP] + ny * look[L_UP + 1] + nz * look[L_UP + 2]
                            open_ = (0.15 + 0.75 * open_) * (1.0 - 0.70 * _step(-0.15, 0.45, high))
                            gloss, sharp = look[L_WET], 900.0
                            wrap_r, wrap_g, wrap_b = 0.35, 0.25, 0.25
                        elif m in (TEETH, MOUTH):
                            r, g, bl = l0, l1, l2
                            if m == TEETH:
                                r, g, bl = r * look[L_TEETH], g * look[L_TEETH + 1], bl * look[L_TEETH + 2]
                                gloss, sharp = 0.10, 90.0
                                open_ = 0.30 + 0.70 * open_
                            else:
                                gloss, sharp = 0.14, 60.0
                                open_ = open_ * open_
                        elif m == PAD:
                            k = int(attr[a, 13])
                            # a square of white tape, paper or foam
                            edge = max(abs(l0), abs(l1))
                            size = styles[k, 3]
                            grain = value_noise(l0 * size * 900.0, l1 * size * 900.0, seed + k)
                            crinkle = value_noise(l0 * 3.0 + k, l1 * 3.0, seed + 11)
                            tone = 0.90 + 0.10 * grain + 0.12 * (crinkle - 0.5)
                            rim = _step(0.80, 1.05, edge)
                            r, g, bl = styles[k, 0] * tone, styles[k, 1] * tone, styles[k, 2] * tone
                            alpha = 1.0 - styles[k, 10] * (0.35 + 0.65 * rim)  # tape lets the skin shine through, most at the rim
                            gloss, sharp = 0.05, 30.0
                            # the electrode under it: a grey disc with a dark ring and a metal snap, and a dot
                            dx, dy = (l0 - styles[k, 4]) * size, (l1 - styles[k, 5]) * size
                            d = np.sqrt(dx * dx + dy * dy) / styles[k, 6]
                            if d < 1.35:
                                ring = _step(1.35, 1.05, d)
                                r, g, bl = r * (1.0 - 0.45 * ring), g * (1.0 - 0.40 * ring), bl * (1.0 - 0.30 * ring)
                                alpha = max(alpha, ring)
                                if d < 1.0:
                                    tilt = 0.55 * np.sin(d * 3.1416)
                                    nx, ny = nx + tilt * dx / styles[k, 6], ny + tilt * dy / styles[k, 6]
                                    metal = 0.30 + 0.32 * _step(0.75, 0.35, d)
                                    r, g, bl = metal * 0.95, metal * 0.97, metal * 1.05
                                    gloss, sharp = 0.55, 40.0
                            ex, ey = (l0 - styles[k, 7]) * size, (l1 - styles[k, 8]) * size
                            dot = _step(0.0011, 0.0007, np.sqrt(ex * ex + ey * ey)) * styles[k, 9]
                            r, g, bl = r * (1.0 - 0.9 * dot), g * (1.0 - 0.85 * dot), bl * (1.0 - 0.55 * dot)
                        else:
                            k = int(attr[a, 13])
                            r, g, bl = styles[k, 0], styles[k, 1], styles[k, 2]
                            gloss, sharp = styles[k, 3], 26.0
                            if m == HAIR:
                                tone = 0.5 + value_noise(l0 * 3.0, l1 * 400.0, seed + k)
                                r, g, bl = r * tone, g * tone, bl * tone
                            else:
                                # insulation that turns to a dark plug where it meets the pad
                                plug = styles[k, 4]
                                if l1 < plug or (styles[k, 8] > 0.0 and l1 > styles[k, 8]):
                                    r, g, bl = styles[k, 5], styles[k, 6], styles[k, 7]

                        seen = 1.0 - look[L_AO] * (1.0 - open_)
                        seen = min(max(seen, 0.0), 1.0)
                        # blood colours the light that gets into creases of skin
                        seen_g, seen_b = seen, seen
                        if m in (SKIN, MOUTH):
                            seen_g, seen_b = seen * (0.86 + 0.14 * seen), seen * (0.82 + 0.18 * seen)
                        up = 0.5 + 0.5 * (nx * look[L_UP] + ny * look[L_UP + 1] + nz * look[L_UP + 2])
                        dr = (look[L_GROUND] + (look[L_AMBIENT] - look[L_GROUND]) * up) * seen
                        dg = (look[L_GROUND + 1] + (look[L_AMBIENT + 1] - look[L_GROUND + 1]) * up) * seen_g
                        db = (look[L_GROUND + 2] + (look[L_AMBIENT + 2] - look[L_GROUND + 2]) * up) * seen_b
                        sr, sg, sb = 0.0, 0.0, 0.0
                        facing = max(nx * vx + ny * vy + nz * vz, 0.0)
                        fresnel = 1.0 - facing
                        fresnel = 0.35 + 4.0 * fresnel * fresnel * fresnel * fresnel
                        direct = 0.25 * seen + 0.75 * seen * seen
                        over_r, over_g, over_b = direct / (1.0 + wrap_r), direct / (1.0 + wrap_g), direct / (1.0 + wrap_b)
                        for k in range(lights.shape[0]):
                            lx, ly, lz = lights[k, 0], lights[k, 1], lights[k, 2]
                            lit = nx * lx + ny * ly + nz * lz
                            hr = max(lit + wrap_r, 0.0) * over_r
                            hg = max(lit + wrap_g, 0.0) * over_g
                            hb = max(lit + wrap_b, 0.0) * over_b
                            dr += lights[k, 3] * hr
                            dg += lights[k, 4] * hg
                            db += lights[k, 5] * hb
                            if gloss > 0.0 and lit > 0.0:
                                hx, hy, hz = lx + vx, ly + vy, lz + vz
                                half = (nx * hx + ny * hy + nz * hz) / (np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
                                fall = 1.0 / (
                                    1.0 + 0.125 * sharp * max(1.0 - half, 0.0)
                                )  # its eighth power is near exp(-sharp (1 - half)), and much cheaper
                                fall = fall * fall
                                fall = fall * fall
                                spec = gloss * fall * fall * direct * min(lit * 4.0, 1.0) * fresnel
                                sr += lights[k, 3] * spec
                                sg += lights[k, 4] * spec
                                sb += lights[k, 5] * spec
                        exposure = look[L_EXPOSURE]
                        colour[0] = exposure * (r * dr + sr)
                        colour[1] = exposure * (g * dg + sg)
                        colour[2] = exposure * (bl * db + sb)
                    for e in range(3):
                        total[e] += left * alpha * colour[e]
                    left *= 1.0 - alpha
                    if left < 0.008 * count:
                        break
                for e in range(3):
                    total[e] += left * back[e]
            for k in range(3):
                image[y, x, k] = encode[int(min(max(total[k], 0.0), 1.0) * 4095.0 + 0.5)]


@compiled
def extent(index: Any) -> Any:
    """(top, bottom, left, right) in pixels of everything that is not -1 in a (2 H, 2 W) index picture."""
    top, bottom, left, right = index.shape[0], -1, index.shape[1], -1
    for y in range(index.shape[0]):
        for x in range(index.shape[1]):
            if index[y, x] >= 0:
                top, bottom = min(top, y), max(bottom, y)
                left, right = min(left, x), max(right, x)
    return top // 2, bottom // 2 + 1, left // 2, right // 2 + 1


@compiled
def threads(points: Any, radius: Any, first: int, style: Any, openness: float, least: float, v: Any, attr: Any) -> None:
    """Ribbons that face the camera along threads.

    points (N, S, 3) camera coordinates, radius (N, S) m; writes vertices `first` .. first + 2 N S into v (camera coordinates) and
    attr. style (N,) row of the style table; least: smallest half width as a share of depth, so that no thread falls between samples.
    """
    count, steps = points.shape[0], points.shape[1]
    for n in range(count):
        along = 0.0
        for s in range(steps):
            i, j = max(s - 1, 0), min(s + 1, steps - 1)
            tx, ty, tz = points[n, j, 0] - points[n, i, 0], points[n, j, 1] - points[n, i, 1], points[n, j, 2] - points[n, i, 2]
            x, y, z = points[n, s, 0], points[n, s, 1], points[n, s, 2]
            sx, sy, sz = ty * z - tz * y, tz * x - tx * z, tx * y - ty * x
            length = np.sqrt(sx * sx + sy * sy + sz * sz)
            if length < 1e-12:
                sx, sy, sz, length = 1.0, 0.0, 0.0, 1.0
            sx, sy, sz = sx / length, sy / length, sz / length
            if s > 0:
                gx, gy, gz = x - points[n, s - 1, 0], y - points[n, s - 1, 1], z - points[n, s - 1, 2]
                along += np.sqrt(gx * gx + gy * gy + gz * gz)
            half = max(radius[n, s], least * z)
            for side in range(2):
                k = first + 2 * (n * steps + s) + side
                sign = 1.0 if side == 1 else -1.0
                v[k, 0], v[k, 1], v[k, 2] = x + sign * half * sx, y + sign * half * sy, z + sign * half * sz
                attr[k, 0], attr[k, 1], attr[k, 2] = sx, sy, sz
                attr[k, 5] = openness
                attr[k, 9], attr[k, 10] = sign, along
                attr[k, 13] = style[n]


def ribbon_faces(count: int, steps: int, first: int) -> Any:
    """Triangles (count * (steps - 1) * 2, 3) of what `threads` writes."""
    start = first + 2 * (np.arange(count)[:, None] * steps + np.arange(steps - 1)[None])
    a = start.reshape(-1)
    return np.stack([np.stack([a, a + 1, a + 2], -1), np.stack([a + 1, a + 3, a + 2], -1)], 1).reshape(-1, 3).astype(np.int32)
