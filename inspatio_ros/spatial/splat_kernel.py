# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The loops over pixels and points of `splat_cpu.py`; thresholds are arguments, so that they are typed in one place.

Points are listed as (x, y, z, source index); pixels of a band of the target, from row `top` on, lie in buffers with a
border of one pixel, `pitch` = width + 2 a row, so that a point's four pixels need no bounds check. Coordinates stay
those of the whole target, so that rounding does not depend on how it is split into bands.
"""

from __future__ import annotations

import numpy as np

from inspatio_ros.compiled import compiled

#: Edge of the square tiles in which source pixels are culled and target pixels are visited.
TILE = 16

_ZERO = np.float32(0)
_ONE = np.float32(1)
_HALF = np.float32(0.5)
_INF = np.float32(np.inf)
_NAN = np.float32(np.nan)


@compiled()
def tile_ranges(z_depth):
    """Give the least and the largest known depth of each tile, [rows, columns, 2]; inf, -inf where none is known."""
    height, width = z_depth.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    ranges = np.empty((rows, columns, 2), np.float32)
    ranges[..., 0], ranges[..., 1] = _INF, -_INF
    for y in range(height):
        for x in range(width):
            z = z_depth[y, x]
            if z > 0 and z < _INF:
                tile = ranges[y // TILE, x // TILE]
                tile[0] = min(tile[0], z)
                tile[1] = max(tile[1], z)
    return ranges


@compiled()
def farthest_limits(limit, farthest):
    """Write for each TILE x TILE cell the largest of the padded limits, inf where the cell has a hole."""
    height, width = limit.shape[0] - 2, limit.shape[1] - 2
    farthest[:] = 0
    for y in range(height):
        cells = farthest[y // TILE]
        for c in range(len(cells)):
            most = cells[c]
            for x in range(c * TILE + 1, min((c + 1) * TILE, width) + 1):
                most = limit[y + 1, x] if limit[y + 1, x] > most else most
            cells[c] = most


@compiled()
def _tile_bounds(x0, y0, x1, y1, z0, z1, A, b):
    """Bound the projection of a piece of the source's frustum: (x min, x max, y min, y max, z min, z max)."""
    xa, xb, ya, yb, za, zb = _INF, -_INF, _INF, -_INF, _INF, -_INF
    for corner in range(8):
        x = x1 if corner & 1 else x0
        y = y1 if corner & 2 else y0
        z = z1 if corner & 4 else z0
        pz = (A[2, 0] * x + A[2, 1] * y + A[2, 2]) * z + b[2]
        za, zb = min(za, pz), max(zb, pz)
        if pz > 0:
            px = ((A[0, 0] * x + A[0, 1] * y + A[0, 2]) * z + b[0]) / pz
            py = ((A[1, 0] * x + A[1, 1] * y + A[1, 2]) * z + b[1]) / pz
            xa, xb, ya, yb = min(xa, px), max(xb, px), min(ya, py), max(yb, py)
    if za <= 0:
        # The piece crosses the camera's plane: what of it is in front may project anywhere.
        xa, xb, ya, yb = -_INF, _INF, -_INF, _INF
    return xa, xb, ya, yb, za, zb


@compiled()
def select_tiles(ranges, source_height, source_width, A, b, top, width, height, farthest):
    """Say which source tiles can change the band, and which cells of the band they touch (two bool arrays)."""
    rows, columns = ranges.shape[:2]
    active = np.zeros((rows, columns), np.bool_)
    touched = np.zeros(farthest.shape, np.bool_)
    for r in range(rows):
        for c in range(columns):
            z0, z1 = ranges[r, c]
            if z0 > z1:
                continue
            xa, xb, ya, yb, za, zb = _tile_bounds(
                np.float32(c * TILE), np.float32(r * TILE), np.float32(min((c + 1) * TILE, source_width) - 1),
                np.float32(min((r + 1) * TILE, source_height) - 1), z0, z1, A, b)
            ya, yb = ya - top, yb - top
            if zb <= 0 or xb <= -1 or xa >= width or yb <= -1 or ya >= height:
                continue
            # One pixel more on each side: a point is shared among the pixels around it, and float32 rounds.
            ca, cb = int(max(xa - 2, 0)) // TILE, int(min(xb + 2, width - 1)) // TILE
            ra, rb = int(max(ya - 2, 0)) // TILE, int(min(yb + 2, height - 1)) // TILE
            if (farthest[ra:rb + 1, ca:cb + 1] > za).any():
                active[r, c] = True
                touched[ra:rb + 1, ca:cb + 1] = True
    return active, touched


@compiled()
def project(z_depth, active, A, b, top, width, height, xs, ys, zs, index):
    """Project the known pixels of the active tiles; keep (x, y, z, source index) of those in the band."""
    source_height, source_width = z_depth.shape
    x_buffer, y_buffer, z_buffer = (np.empty(source_width, np.float32), np.empty(source_width, np.float32),
                                    np.empty(source_width, np.float32))
    a0, a1, a2 = A[0, 0], A[1, 0], A[2, 0]
    x_end, y_start, y_end = np.float32(width), np.float32(top - 1), np.float32(top + height)
    count = 0
    for y in range(source_height):
        tiles = active[y // TILE]
        r0 = A[0, 1] * np.float32(y) + A[0, 2]
        r1 = A[1, 1] * np.float32(y) + A[1, 2]
        r2 = A[2, 1] * np.float32(y) + A[2, 2]
        end = 0
        while end < source_width:
            # A run of neighbouring active tiles; the first loop over it has no branch, so it is vectorised.
            start = end
            while start < source_width and not tiles[start // TILE]:
                start += TILE
            end = start
            while end < source_width and tiles[end // TILE]:
                end += TILE
            end = min(end, source_width)
            for x in range(start, end):
                column, z = np.float32(x), z_depth[y, x]
                pz = (a2 * column + r2) * z + b[2]
                inverse = _ONE / pz
                x_buffer[x] = ((a0 * column + r0) * z + b[0]) * inverse
                y_buffer[x] = ((a1 * column + r1) * z + b[1]) * inverse
                z_buffer[x] = pz if z > 0 else np.float32(-1)
            for x in range(start, end):
                px, py, pz = x_buffer[x], y_buffer[x], z_buffer[x]
                xs[count], ys[count], zs[count], index[count] = px, py, pz, y * source_width + x
                count += (pz > 0) & (pz < _INF) & (px > -1) & (px < x_end) & (py > y_start) & (py < y_end)
    return count


@compiled()
def keep_open(count, xs, ys, zs, index, limit, top, pitch, touched):
    """Keep, in place, the points that can change one of the four pixels around them; mark the cells of those."""
    kept = 0
    for i in range(count):
        x, y, z = xs[i], ys[i], zs[i]
        p = (int(np.floor(y)) + 1 - top) * pitch + int(np.floor(x)) + 1
        xs[kept], ys[kept], zs[kept], index[kept] = x, y, z, index[i]
        kept += max(max(limit[p], limit[p + 1]), max(limit[p + pitch], limit[p + pitch + 1])) > z
    touched[:] = False
    for i in range(kept):
        row, column = int(np.floor(ys[i])) + 1 - top, int(np.floor(xs[i])) + 1
        # The padded pixel (row, column) is pixel (row - 1, column - 1).
        r0, c0 = max(row - 1, 0) // TILE, max(column - 1, 0) // TILE
        r1, c1 = min(row // TILE, touched.shape[0] - 1), min(column // TILE, touched.shape[1] - 1)
        touched[r0, c0] = touched[r0, c1] = touched[r1, c0] = touched[r1, c1] = True
    return kept


@compiled()
def clear(touched, nearest, sums, width, height):
    """Reset the touched cells, with a border of one pixel, of the padded buffers."""
    for r in range(touched.shape[0]):
        for c in range(touched.shape[1]):
            if touched[r, c]:
                start, end = c * TILE, min((c + 1) * TILE, width) + 2
                for y in range(r * TILE, min((r + 1) * TILE, height) + 2):
                    nearest[y * (width + 2) + start:y * (width + 2) + end] = _INF
                    sums[y * (width + 2) + start:y * (width + 2) + end] = 0


@compiled()
def _corner(x, y, top, pitch):
    """Give the padded pixel left above (x, y), and the four bilinear shares."""
    # Not int(x + 1): rounding the sum could step over the end of the buffers.
    left, above = np.floor(x), np.floor(y)
    fx, fy = x - left, y - above
    gx, gy = _ONE - fx, _ONE - fy
    return (int(above) + 1 - top) * pitch + int(left) + 1, gx * gy, fx * gy, gx * fy, fx * fy


@compiled()
def find_nearest(count, xs, ys, zs, nearest, top, pitch, min_share):
    """Lower `nearest` to the depth of each point in the pixels that it has at least `min_share` of."""
    for i in range(count):
        z = zs[i]
        p, s00, s01, s10, s11 = _corner(xs[i], ys[i], top, pitch)
        nearest[p] = min(nearest[p], z if s00 >= min_share else _INF)
        nearest[p + 1] = min(nearest[p + 1], z if s01 >= min_share else _INF)
        nearest[p + pitch] = min(nearest[p + pitch], z if s10 >= min_share else _INF)
        nearest[p + pitch + 1] = min(nearest[p + pitch + 1], z if s11 >= min_share else _INF)


@compiled()
def _add(sums, p, share, z, inverse_z, nearest, red, green, blue, min_share, behind, squarings):
    # Read once into a local: with two reads LLVM makes code seven times slower.
    front = nearest[p]
    if share >= min_share and z <= front * behind:
        factor = front * inverse_z
        for _ in range(squarings):
            factor *= factor
        weight = share * factor
        sums[p, 0] += weight * red
        sums[p, 1] += weight * green
        sums[p, 2] += weight * blue
        sums[p, 3] += weight * z
        sums[p, 4] += weight


@compiled()
def accumulate(count, xs, ys, zs, index, colour, nearest, sums, top, pitch, min_share, behind, squarings):
    """Add each point to the pixels around it where it is not hidden: sums [pixels, 5] of w * (r, g, b, z) and w."""
    for i in range(count):
        p, s00, s01, s10, s11 = _corner(xs[i], ys[i], top, pitch)
        z, k = zs[i], index[i]
        inverse_z = _ONE / z
        red, green, blue = np.float32(colour[k, 0]), np.float32(colour[k, 1]), np.float32(colour[k, 2])
        _add(sums, p, s00, z, inverse_z, nearest, red, green, blue, min_share, behind, squarings)
        _add(sums, p + 1, s01, z, inverse_z, nearest, red, green, blue, min_share, behind, squarings)
        _add(sums, p + pitch, s10, z, inverse_z, nearest, red, green, blue, min_share, behind, squarings)
        _add(sums, p + pitch + 1, s11, z, inverse_z, nearest, red, green, blue, min_share, behind, squarings)


@compiled()
def find_winners(touched, sums, limit, width, height, winners):
    """List the pixels (y * width + x) that the view changes; bring their sums to weighted means."""
    won = 0
    for y in range(height):
        for c in range(touched.shape[1]):
            if not touched[y // TILE, c]:
                continue
            for x in range(c * TILE, min((c + 1) * TILE, width)):
                p = (y + 1) * (width + 2) + x + 1
                total, z_sum = sums[p, 4], sums[p, 3]
                # Depth is not below the limit where nothing fell (0 < 0) or what is known is as near.
                if z_sum < limit[p] * total:
                    sums[p, 4] = _ONE / total
                    winners[won] = y * width + x
                    won += 1
    return won


@compiled()
def veto(won, winners, sums, factor, offset, top, width, A, b, colour, source_z, source_factor, source_offset,
         most_different, nearer):
    """Drop from the winners what a better view, whose pixel (A, b) gives, sees past or shows in another colour."""
    source_height, source_width = source_z.shape
    kept = 0
    for n in range(won):
        y, x = winners[n] // width, winners[n] % width
        p = (y + 1) * (width + 2) + x + 1
        inverse = sums[p, 4]
        z, column, row = sums[p, 3] * inverse, np.float32(x), np.float32(y + top)
        pz = (A[2, 0] * column + A[2, 1] * row + A[2, 2]) * z + b[2]
        px = ((A[0, 0] * column + A[0, 1] * row + A[0, 2]) * z + b[0]) / pz + _HALF
        py = ((A[1, 0] * column + A[1, 1] * row + A[1, 2]) * z + b[1]) / pz + _HALF
        difference = np.float32(0)
        if pz > 0 and px >= 0 and py >= 0 and px < source_width and py < source_height:
            i, j = int(py), int(px)
            if source_z[i, j] > 0:
                if pz < source_z[i, j] * nearer:
                    difference = _INF
            else:
                for channel in range(3):
                    own = min(sums[p, channel] * inverse * factor[channel] + offset[channel], _ONE)
                    theirs = min(colour[i, j, channel] * source_factor[channel] + source_offset[channel], _ONE)
                    difference = max(difference, abs(own - theirs))
        winners[kept] = winners[n]
        kept += not difference > most_different
    return kept


@compiled()
def resolve(won, winners, sums, factor, offset, image, mask, z_depth, limit, nearer):
    """Write the winners' weighted means, and the limits that they set for the next view."""
    width = z_depth.shape[1]
    f0, f1, f2 = factor
    o0, o1, o2 = offset
    for n in range(won):
        y, x = winners[n] // width, winners[n] % width
        p = (y + 1) * (width + 2) + x + 1
        inverse = sums[p, 4]
        red, green, blue, z = sums[p, 0] * inverse, sums[p, 1] * inverse, sums[p, 2] * inverse, sums[p, 3] * inverse
        image[0, y, x] = min(red * f0 + o0, _ONE)
        image[1, y, x] = min(green * f1 + o1, _ONE)
        image[2, y, x] = min(blue * f2 + o2, _ONE)
        mask[y, x], z_depth[y, x], limit[p] = _ONE, z, z * nearer


@compiled()
def resolve_first(sums, factor, offset, image, mask, z_depth, limit, hole, nearer):
    """Write the first view: its weighted means, and `hole` where it shows nothing; set all limits."""
    height, width = z_depth.shape
    f0, f1, f2 = factor
    o0, o1, o2 = offset
    for y in range(height):
        row = (y + 1) * (width + 2) + 1
        for x in range(width):
            total = sums[row + x, 4]
            if total > 0:
                inverse = _ONE / total
                red, green, blue = sums[row + x, 0] * inverse, sums[row + x, 1] * inverse, sums[row + x, 2] * inverse
                z = sums[row + x, 3] * inverse
                image[0, y, x] = min(red * f0 + o0, _ONE)
                image[1, y, x] = min(green * f1 + o1, _ONE)
                image[2, y, x] = min(blue * f2 + o2, _ONE)
                mask[y, x], z_depth[y, x], limit[row + x] = _ONE, z, z * nearer
            else:
                image[0, y, x], image[1, y, x], image[2, y, x] = hole, hole, hole
                mask[y, x], z_depth[y, x], limit[row + x] = _ZERO, _NAN, _INF
