# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A procedural scene as plain arrays: solids that may move, their materials, and the lights.

Scenes are in metres with z up. They are built with `SceneBuilder` and then only read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from inspatio_ros.geometry import make_pose
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern

Colour = tuple[float, float, float]

#: Faces of a solid that may each have a material: -x, +x, -y, +y, -z, +z.
FACES = 6


@dataclass(frozen=True)
class Material:
    """How a surface looks; colours are sRGB in [0, 1], lengths metres.

    `scale` is the size of a feature along u, `aspect` its height by its width, `grain` the strength of fine noise on
    top, `specular` that of the highlight; `emission` 1 means that the surface shines and takes no light.
    """

    pattern: Pattern = Pattern.PLAIN
    colours: tuple[Colour, Colour, Colour] = ((.6, .6, .6), (.4, .4, .4), (.8, .8, .8))
    scale: float = 1.
    aspect: float = 1.
    grain: float = .12
    seed: int = 0
    specular: float = 0.
    emission: float = 0.

    def numbers(self) -> tuple[float, ...]:
        """Give the row of numbers that the shading pass reads."""
        return (self.scale, self.aspect, self.grain, float(self.seed), self.specular, self.emission)


@dataclass(frozen=True)
class Motion:
    """A rigid motion about a point, in the world; solids that share one move as one body.

    The turn about `axis` through `pivot` is `spin` t + `swing` sin(2 pi f t + phase) radians; the shift in metres is
    `velocity` t + `sway` sin(2 pi f t + phase) + `hop` |sin(2 pi f t + phase)|.
    """

    pivot: Colour = (0., 0., 0.)
    axis: Colour = (0., 0., 1.)
    spin: float = 0.
    swing: float = 0.
    velocity: Colour = (0., 0., 0.)
    sway: Colour = (0., 0., 0.)
    hop: Colour = (0., 0., 0.)
    frequency: float = 0.
    phase: float = 0.

    def at(self, time: float) -> np.ndarray:
        """Give the motion [4, 4] that takes the body from its place at rest to that at a time in seconds."""
        wave = np.sin(2. * np.pi * self.frequency * time + self.phase)
        R = _turn(np.asarray(self.axis, dtype=np.float64), self.spin * time + self.swing * wave)
        pivot = np.asarray(self.pivot)
        shift = (np.asarray(self.velocity) * time + np.asarray(self.sway) * wave
                 + np.asarray(self.hop) * abs(wave))
        return make_pose(R, pivot - R @ pivot + shift)


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotate about an axis (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    W = np.array([[0., -z, y], [z, 0., -x], [-y, x, 0.]])
    return np.eye(3) + np.sin(angle) * W + (1. - np.cos(angle)) * W @ W


@dataclass(frozen=True)
class Lights:
    """Lamps or a sun far away: position [L, 3], linear colour [L, 3], radius [L] (soft shadows), fade [L] (1/m^2).

    A lamp's light falls off as 1 / (1 + fade d^2). `ambient` [2, 3] is the linear light from above and from below.
    """

    position: np.ndarray
    colour: np.ndarray
    radius: np.ndarray
    fade: np.ndarray
    ambient: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """Solids, materials and lights as arrays; N solids, M materials.

    shape int64 [N]; T_world_object float64 [N, 4, 4] at rest; half_size float64 [N, 3] metres; casts bool [N]
    (throws shadows); material int64 [N, 6]; pattern int64 [M]; colours float64 [M, 3, 3] linear; numbers float64
    [M, 6]; motions: one Motion or None a solid; `inside` float64 [2, 3]: the box in which cameras are at home;
    photographs float32 [P, G, 2 G, 3]: what the pattern IMAGE shows (scenes/photographs.py).
    """

    shape: np.ndarray
    T_world_object: np.ndarray
    half_size: np.ndarray
    casts: np.ndarray
    material: np.ndarray
    pattern: np.ndarray
    colours: np.ndarray
    numbers: np.ndarray
    motions: tuple[Motion | None, ...]
    lights: Lights
    inside: np.ndarray
    background: np.ndarray = field(default_factory=lambda: np.zeros(3))
    photographs: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 2, 3), np.float32))

    def __post_init__(self) -> None:
        """Check that what shows photographs has some."""
        if not len(self.photographs) and (self.pattern == Pattern.IMAGE).any():
            raise ValueError('a material shows photographs, but the scene has none')

    @property
    def moves(self) -> np.ndarray:
        """Say of every solid whether it moves: bool [N]."""
        return np.array([motion is not None for motion in self.motions], dtype=bool)

    def poses(self, time: float) -> np.ndarray:
        """Give T_world_object [N, 4, 4] at a time in seconds."""
        T = self.T_world_object.copy()
        for index, motion in enumerate(self.motions):
            if motion is not None:
                T[index] = motion.at(time) @ T[index]
        return T

    def to_unit(self, T_world_object: np.ndarray) -> np.ndarray:
        """Give the maps [N, 3, 4] from the world to the unit shapes, for poses [N, 4, 4]."""
        R_t = np.swapaxes(T_world_object[:, :3, :3], 1, 2) / self.half_size[:, :, None]
        return np.ascontiguousarray(np.concatenate([R_t, -R_t @ T_world_object[:, :3, 3:]], axis=2))


def linear(colour: np.ndarray) -> np.ndarray:
    """Turn sRGB in [0, 1] to linear light."""
    c = np.asarray(colour, dtype=np.float64)
    return np.where(c <= .04045, c / 12.92, ((c + .055) / 1.055)**2.4)


class SceneBuilder:
    """Collects solids, materials and lights, and makes a `Scene` of them."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._solids: list[tuple] = []
        self._materials: dict[Material, int] = {}
        self._lights: list[tuple] = []

    def add(self, shape: Shape, centre: Colour, size: Colour, material: Material | tuple[Material, ...],
            yaw: float = 0., rotation: np.ndarray | None = None, motion: Motion | None = None,
            casts: bool | None = None) -> None:
        """Add a solid: full `size` in metres along its own axes, turned by `yaw` radians (or a rotation [3, 3]).

        `material` is one for all faces, or six: -x, +x, -y, +y, -z, +z. What shines casts no shadow unless asked to.
        """
        R = _turn(np.array([0., 0., 1.]), yaw) if rotation is None else rotation
        faces = (material,) * FACES if isinstance(material, Material) else tuple(material)
        if casts is None:
            casts = not any(face.emission for face in faces)
        rows = [self._materials.setdefault(face, len(self._materials)) for face in faces]
        self._solids.append((int(shape), make_pose(R, np.asarray(centre)), np.asarray(size, dtype=np.float64) / 2,
                             casts, rows, motion))

    def box(self, centre: Colour, size: Colour, material: Material | tuple[Material, ...], **more: object) -> None:
        """Add a box; see `add`."""
        self.add(Shape.BOX, centre, size, material, **more)

    def sphere(self, centre: Colour, size: Colour, material: Material, **more: object) -> None:
        """Add an ellipsoid; see `add`."""
        self.add(Shape.SPHERE, centre, size, material, **more)

    def cylinder(self, centre: Colour, size: Colour, material: Material | tuple[Material, ...],
                 **more: object) -> None:
        """Add a cylinder along its own z; see `add`."""
        self.add(Shape.CYLINDER, centre, size, material, **more)

    def light(self, position: Colour, colour: Colour, radius: float = .1, reach: float | None = None) -> None:
        """Add a light (linear colour, may exceed 1); `reach` is where it has fallen to half, None for a sun."""
        self._lights.append((position, colour, radius, 0. if reach is None else 1. / reach**2))

    def build(self, inside: np.ndarray, ambient: tuple[Colour, Colour], **more: np.ndarray) -> Scene:
        """Make the scene; `inside` [2, 3] is where cameras are at home, `ambient` the light from above and below.

        `more` are further fields of `Scene`: its background, its photographs.
        """
        shape, T, half, casts, material, motions = zip(*self._solids, strict=True)
        rows = np.array([(*position, *colour, *rest) for position, colour, *rest in self._lights]).reshape(-1, 8)
        lights = Lights(rows[:, :3].copy(), rows[:, 3:6].copy(), rows[:, 6].copy(), rows[:, 7].copy(),
                        np.array(ambient, dtype=np.float64))
        known = list(self._materials)
        return Scene(np.array(shape), np.stack(T), np.stack(half), np.array(casts), np.array(material),
                     np.array([int(m.pattern) for m in known]), linear(np.array([m.colours for m in known])),
                     np.array([m.numbers() for m in known]), motions, lights,
                     np.asarray(inside, dtype=np.float64), **more)
