"""Drawing of six kinds of scenes that differ in shape and share their colours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

# Each has the colours of the sky at the top and at the horizon, and a dark, a middle and a light tone. Every kind uses
# any of them, with the tones in any order, so that a kind cannot be recognized by its colours.
_MOODS: tuple[tuple[Colour, ...], ...] = (
    ((78, 142, 206), (212, 232, 244), (40, 70, 72), (112, 150, 118), (244, 240, 226)),
    ((46, 52, 104), (238, 148, 108), (48, 36, 70), (158, 86, 100), (252, 214, 160)),
    ((142, 154, 166), (216, 220, 220), (58, 68, 78), (124, 136, 142), (238, 238, 234)),
    ((18, 26, 60), (64, 88, 138), (14, 20, 40), (74, 98, 146), (206, 216, 238)),
    ((226, 168, 160), (250, 232, 210), (92, 66, 78), (178, 124, 116), (255, 246, 232)),
    ((96, 178, 182), (230, 240, 214), (26, 62, 72), (98, 146, 124), (246, 240, 206)),
    ((204, 146, 86), (248, 224, 164), (86, 52, 40), (168, 112, 66), (252, 240, 208)),
)


@dataclass(frozen=True)
class _Canvas:
    """A drawing surface in units of the image's side: (0, 0) is the top left corner, (1, 1) the bottom right."""

    pen: ImageDraw.ImageDraw
    side: int
    generator: np.random.Generator
    back: Colour
    front: Colour
    detail: Colour

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.generator.random()

    def count(self, low: int, high: int) -> int:
        return int(self.generator.integers(low, high + 1))

    def polygon(self, points: Iterable[Point], colour: Colour, at: Point = (0, 0), scale: float = 1) -> None:
        """Fill a polygon given in units of `scale` around the point `at`."""
        self.pen.polygon(
            [((at[0] + x * scale) * self.side, (at[1] + y * scale) * self.side) for x, y in points], colour
        )

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        box = (x - width, y - height, x + width, y + height)
        self.pen.ellipse([edge * self.side for edge in box], colour)

    def line(self, points: Iterable[Point], colour: Colour, width: float) -> None:
        self.pen.line([(x * self.side, y * self.side) for x, y in points], colour, max(1, round(width * self.side)))

    def jagged(self, start: Point, end: Point, roughness: float) -> list[Point]:
        """Return a line of nine points whose inner points are displaced by up to `roughness`."""
        along = np.arange(9)[:, None] / 8
        moves = self.generator.uniform(-roughness, roughness, (9, 2)) * np.minimum(1, 8 * along * (1 - along))
        return [(x, y) for x, y in (along * end + (1 - along) * start + moves).tolist()]


def draw_scene(kind: str, size: int, generator: np.random.Generator) -> Image.Image:
    """Draw a scene.

    Args:
        kind: One of `KINDS`.
        size: Side of the image in pixels.
        generator: Only source of randomness: the same state draws the same pixels.

    Returns:
        An RGB image, `size` x `size`.

    Raises:
        KeyError: `kind` is unknown.
    """
    jitter = generator.integers(-14, 15, (5, 3))
    above, horizon, *tones = np.clip(_MOODS[generator.integers(len(_MOODS))] + jitter, 0, 255).tolist()
    back, front, detail = (tuple(tones[position]) for position in generator.permutation(3))
    side = 2 * size  # ImageDraw does not antialias: drawn at twice the size and reduced
    image = _gradient(above, horizon, side)
    canvas = _Canvas(ImageDraw.Draw(image), side, generator, back, front, detail)
    _sky(canvas, tuple(tones[2]))
    _PAINTERS[kind](canvas)
    return _photographed(image.reduce(2), generator)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return min(255, int(red * factor)), min(255, int(green * factor)), min(255, int(blue * factor))


def _gradient(top: list[int], bottom: list[int], side: int) -> Image.Image:
    down = np.linspace(0, 1.6, side).clip(0, 1)[:, None, None]
    column = ((1 - down) * top + down * bottom).astype(np.uint8)
    return Image.fromarray(column).resize((side, side), Image.Resampling.NEAREST)


def _photographed(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return the image with random exposure, tint, light from one side and grain, flipped half of the time."""
    pixels = np.asarray(image, dtype=np.float32)[:, :: generator.choice((-1, 1))]
    slope = np.linspace(-1, 1, image.width)[:, None] * generator.uniform(-0.2, 0.2)
    light = generator.uniform(0.65, 1.2) * (1 + slope) * generator.uniform(0.88, 1.12, 3)
    grain = generator.standard_normal((*pixels.shape[:2], 1), dtype=np.float32) * np.float32(generator.uniform(2, 9))
    return Image.fromarray((pixels * light.astype(np.float32) + grain).clip(0, 255).astype(np.uint8))


def _sky(canvas: _Canvas, light: Colour) -> None:
    if canvas.generator.random() < 0.5:
        radius = canvas.between(0.03, 0.09)
        canvas.disc(canvas.between(0.1, 0.9), canvas.between(0.08, 0.35), radius, radius, light)
    for _ in range(canvas.count(0, 3)):
        x, y, width = canvas.between(0, 1), canvas.between(0.05, 0.35), canvas.between(0.06, 0.14)
        for shift in (-0.8, 0.0, 0.7):
            canvas.disc(x + shift * width, y - 0.1 * width * shift, width, 0.28 * width, _shade(light, 0.96))


def _buildings(canvas: _Canvas) -> None:
    ground = canvas.between(0.8, 0.97)
    for wall, low, high, step in ((canvas.back, 0.2, 0.5, 0.16), (canvas.front, 0.25, 0.75, 0.26)):
        left = canvas.between(-0.15, 0.05)
        while left < 1:
            right = left + canvas.between(0.6 * step, 1.4 * step)
            _tower(canvas, (left, ground - canvas.between(low, high), right, ground), wall)
            left = right + canvas.between(0, 0.4 * step)
    canvas.box(0, ground, 1, 1, _shade(canvas.back, 0.8))


def _tower(canvas: _Canvas, sides: tuple[float, float, float, float], wall: Colour) -> None:
    left, top, right, bottom = sides
    wall = _shade(wall, canvas.between(0.8, 1.15))
    canvas.box(left, top, right, bottom, wall)
    canvas.box(right - 0.2 * (right - left), top, right, bottom, _shade(wall, 0.75))
    columns, rows = canvas.count(2, 5), int((bottom - top) / canvas.between(0.05, 0.09))
    wide, tall = 0.8 * (right - left) / columns, (bottom - top) / rows
    for row, column in np.ndindex(rows, columns):
        x, y = left + (column + 0.25) * wide, top + (row + 0.25) * tall
        window = canvas.detail if canvas.generator.random() < 0.75 else _shade(wall, 0.55)
        canvas.box(x, y, x + 0.55 * wide, y + 0.5 * tall, window)


def _forest(canvas: _Canvas) -> None:
    horizon = canvas.between(0.45, 0.65)
    canvas.box(0, horizon, 1, 1, canvas.back)
    tree = _conifer if canvas.generator.random() < 0.5 else _leafy_tree
    for height, down, light in ((0.24, 0.04, 1.25), (0.36, 0.16, 1.0), (0.56, 0.36, 0.8)):
        x = canvas.between(-0.1, 0.1)
        while x < 1.1:
            size, crown = height * canvas.between(0.7, 1.3), _shade(canvas.front, light * canvas.between(0.85, 1.15))
            tree(canvas, (x, horizon + down + canvas.between(-0.02, 0.03)), size, crown)
            x += height * canvas.between(0.25, 0.5)


def _conifer(canvas: _Canvas, foot: Point, height: float, crown: Colour) -> None:
    canvas.polygon([(-0.03, -0.2), (0.03, -0.2), (0.03, 0), (-0.03, 0)], canvas.detail, foot, height)
    for top, half in ((-1.0, 0.09), (-0.8, 0.14), (-0.6, 0.19), (-0.4, 0.24)):
        canvas.polygon([(0, top), (half, top + 0.32), (-half, top + 0.32)], crown, foot, height)
        canvas.polygon([(0, top), (half, top + 0.32), (0.2 * half, top + 0.32)], _shade(crown, 0.75), foot, height)


def _leafy_tree(canvas: _Canvas, foot: Point, height: float, crown: Colour) -> None:
    canvas.polygon([(-0.035, -0.6), (0.035, -0.6), (0.035, 0), (-0.035, 0)], canvas.detail, foot, height)
    for right, up, light in ((-0.14, 0.62, 0.8), (0.14, 0.66, 0.75), (0, 0.82, 1.0), (-0.05, 0.72, 1.1)):
        radius = height * canvas.between(0.14, 0.19)
        canvas.disc(foot[0] + right * height, foot[1] - up * height, radius, radius, _shade(crown, light))


def _mountain(canvas: _Canvas) -> None:
    foot = canvas.between(0.75, 0.92)
    for rock, rise in ((canvas.back, 0.35), (canvas.front, 0.5)):
        for _ in range(canvas.count(1, 3)):
            apex = (canvas.between(0.05, 0.95), foot - rise * canvas.between(0.7, 1.25))
            _peak(canvas, apex, foot, _shade(rock, canvas.between(0.85, 1.1)))
    canvas.polygon([*canvas.jagged((0, foot), (1, foot), 0.02), (1, 1), (0, 1)], _shade(canvas.back, 0.85))


def _peak(canvas: _Canvas, apex: Point, foot: float, rock: Colour) -> None:
    x, height = apex[0], foot - apex[1]
    west = canvas.jagged(apex, (x - height * canvas.between(0.7, 1.2), foot), 0.02)
    east = canvas.jagged(apex, (x + height * canvas.between(0.7, 1.2), foot), 0.02)
    ridge = canvas.jagged(apex, (x + height * canvas.between(-0.1, 0.2), foot), 0.035)
    canvas.polygon([*west, *reversed(ridge)], rock)
    canvas.polygon([*east, *reversed(ridge)], _shade(rock, 0.65))
    snow = canvas.count(2, 3)
    hem = canvas.jagged(west[snow], east[snow], 0.05)
    canvas.polygon([*west[:snow], *hem, *reversed(east[:snow])], canvas.detail)


def _glacier(canvas: _Canvas) -> None:
    top, foot = canvas.between(0.3, 0.45), canvas.between(0.62, 0.78)
    canvas.polygon([*canvas.jagged((0, top - 0.05), (1, top - 0.05), 0.07), (1, 1), (0, 1)], canvas.back)
    left = -0.05
    while left < 1:
        right = left + canvas.between(0.05, 0.16)
        _ice_column(canvas, left, right, top + canvas.between(-0.04, 0.08), foot)
        left = right
    canvas.box(0, foot, 1, 1, _shade(canvas.back, 0.8))
    for depth in np.sort(canvas.generator.uniform(0.05, 1, canvas.count(3, 9))).tolist():
        _floe(canvas, (canvas.between(0, 1), foot + depth * (1 - foot)), canvas.between(0.05, 0.09) * (1 + depth))


def _ice_column(canvas: _Canvas, left: float, right: float, head: float, foot: float) -> None:
    lean, ice = canvas.between(-0.03, 0.03), _shade(canvas.front, canvas.between(0.8, 1.1))
    corner = (right + lean, head + canvas.between(-0.03, 0.05))
    canvas.polygon([(left + lean, head), corner, (right, foot), (left, foot)], ice)
    canvas.polygon([(canvas.between(left, right), head + 0.03), corner, (right, foot)], _shade(ice, 0.8))
    canvas.line(canvas.jagged((left + lean, head), (left, foot), 0.015), canvas.detail, 0.008)


def _floe(canvas: _Canvas, centre: Point, width: float) -> None:
    peak = (canvas.between(0, 0.4), -canvas.between(0.4, 0.8))
    canvas.polygon([(-1, 0), (-0.6, -0.4), peak, (0.8, -0.25), (1, 0)], canvas.front, centre, width)
    canvas.polygon([peak, (0.8, -0.25), (1, 0), (0.3, 0)], _shade(canvas.front, 0.75), centre, width)


def _sea(canvas: _Canvas) -> None:
    horizon = canvas.between(0.35, 0.6)
    canvas.box(0, horizon, 1, 1, canvas.front)
    y, gap = horizon + 0.01, 0.012
    while y < 1:
        for x in canvas.generator.uniform(-0.1, 1, canvas.count(3, 7)).tolist():
            _wave(canvas, (x, y + canvas.between(-0.4, 0.4) * gap), gap)
        y, gap = y + gap, gap * 1.22
    for _ in range(canvas.count(0, 2)):
        boat, size = (canvas.between(0.1, 0.9), horizon + canvas.between(0.02, 0.25)), canvas.between(0.05, 0.11)
        canvas.polygon([(-1, -0.3), (1, -0.3), (0.6, 0), (-0.6, 0)], canvas.back, boat, size)
        canvas.polygon([(0, -2), (0, -0.4), (0.8, -0.4)], canvas.detail, boat, size)
        canvas.polygon([(-0.1, -1.7), (-0.1, -0.4), (-0.7, -0.4)], canvas.back, boat, size)


def _wave(canvas: _Canvas, start: Point, gap: float) -> None:
    (x, y), step = start, gap * canvas.between(0.3, 0.8)
    tone = canvas.detail if canvas.generator.random() < 0.6 else _shade(canvas.front, 0.8)
    canvas.line([(x + step * turn, y - 0.3 * gap * (turn % 2)) for turn in range(7)], tone, 0.12 * gap + 0.003)


def _street(canvas: _Canvas) -> None:
    end = canvas.between(0.35, 0.65), canvas.between(0.4, 0.58)
    ground, kerb, wall = 1 - end[1], canvas.between(0.25, 0.4), canvas.between(0.5, 0.6)
    canvas.box(0, end[1], 1, 1, _shade(canvas.back, 0.8))
    canvas.polygon([end, (end[0] - kerb, 1), (end[0] + kerb, 1)], canvas.front)
    depths = 12 * np.cumprod([1, *canvas.generator.uniform(0.62, 0.78, 8)])
    for far, near in pairwise(depths.tolist()):
        for across in (-wall, wall):
            _house(canvas, end, (across, ground), (far, near))
        _swept(canvas, end, ((-0.015, ground), (0.015, ground)), (far, (far + near) / 2), canvas.detail)


def _swept(canvas: _Canvas, end: Point, edge: tuple[Point, Point], depths: Point, colour: Colour) -> None:
    """Fill the area that an edge sweeps between two depths on the way to the vanishing point `end`."""
    (start, stop), (far, near) = edge, depths
    corners = ((start, far), (stop, far), (stop, near), (start, near))
    canvas.polygon([(x / depth, y / depth) for (x, y), depth in corners], colour, at=end)


def _house(canvas: _Canvas, end: Point, foot: Point, depths: Point) -> None:
    across, ground = foot
    roof, wall = -canvas.between(0.3, 0.7), _shade(canvas.back, canvas.between(0.75, 1.2))
    _swept(canvas, end, ((across, ground), (across, roof)), depths, wall)
    rims = np.linspace(*depths, 2 * canvas.count(2, 3) + 2)[1:-1].reshape(-1, 2).tolist()
    for top in np.arange(roof + 0.07, ground - 0.1, canvas.between(0.15, 0.2)).tolist():
        for far, near in rims:
            tone = canvas.detail if canvas.generator.random() < 0.7 else _shade(wall, 0.6)
            _swept(canvas, end, ((across, top), (across, top + 0.09)), (far, near), tone)


_PAINTERS: dict[str, Callable[[_Canvas], None]] = {
    "buildings": _buildings,
    "forest": _forest,
    "glacier": _glacier,
    "mountain": _mountain,
    "sea": _sea,
    "street": _street,
}
KINDS = tuple(_PAINTERS)
