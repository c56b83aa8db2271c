"""What is drawn over a picture: bars of the best actions, and a timeline along the lower edge.

    +--------------------------+
    | take plate        62 %   |     bars: as long as an action is probable
    | take cup          11 %   |
    | ...                      |
    |                          |
    | true   [take]  [wash  ]  |     where annotations are given
    | model  [take ]    [wash] |     the smoothed actions, and a line at the moment that is shown
    +--------------------------+

An action has the same colour in all places. Knows no video file, no camera and no window on a screen.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from features.annotations import NUM_NOUNS
from live.actions import Action, ActionNames, ActionSegment

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_WHITE, _DARK = (255, 255, 255, 255), (0, 0, 0, 150)
# Where the text of five actions takes most of a small picture, more of it has to be seen through.
_SMALL_HEIGHT, _CLEAR = 160, (0, 0, 0, 100)
_SMALLEST_FONT = 9  # pixels
_NARROW_SPACE = 14  # pixels; below, the space of Pillow's own font is too narrow to tell words apart
# Time that the timeline shows of a longer video: its segments of 2 s are then wide enough for a name.
_SPAN_S = 30.0


@dataclass(frozen=True)
class Timeline:
    """The actions along a video that lasts until `end_s`: those that people annotated, if any, and the model's."""

    end_s: float
    true: Sequence[ActionSegment]
    predicted: Sequence[ActionSegment]


class Overlay:
    """Draws over pictures of one size.

    Args:
        size: height and width of the pictures, in pixels.
        timeline: of the video; None for a camera.
    """

    def __init__(self, size: tuple[int, int], names: ActionNames, timeline: Timeline | None = None) -> None:
        self._height, self._width = size
        self._names, self._timeline = names, timeline
        self._font_height = max(_SMALLEST_FONT, round(self._height / 24))
        self._panel: tuple[Sequence[Action], Image.Image] | None = None

    def draw(self, picture: np.ndarray, second: float, actions: Sequence[Action], *, note: str = "") -> np.ndarray:
        """Return a picture with its overlay; the picture itself stays as it is.

        Args:
            picture: (H, W, 3) uint8 RGB.
            second: the moment that the picture shows.
            actions: the best actions, best first; none are drawn if there are none.
            note: text for the upper right corner, such as the delay.
        """
        image = Image.fromarray(picture)
        if actions:
            panel = self._panel_of(actions)
            image.paste(panel, (0, 0), panel)
        if note:
            self._draw_note(image, note)
        if self._timeline is not None:
            strips = self._strips(self._timeline, second)
            image.paste(strips, (0, self._height - strips.height), strips)
        return np.asarray(image)

    def _panel_of(self, actions: Sequence[Action]) -> Image.Image:
        """Return the bars of the best actions, drawn once for all pictures that show them."""
        if self._panel is None or self._panel[0] is not actions:
            self._panel = actions, self._draw_panel(actions)
        return self._panel[1]

    def _draw_panel(self, actions: Sequence[Action]) -> Image.Image:
        row_height = self._font_height + max(2, self._font_height // 3)
        width = min(self._width, max(round(0.42 * self._width), 14 * self._font_height))
        is_small = self._height < _SMALL_HEIGHT
        panel = Image.new("RGBA", (width, row_height * len(actions)), _CLEAR if is_small else _DARK)
        draw, font = ImageDraw.Draw(panel), _font(self._font_height)
        margin = max(1, self._font_height // 4)
        for row, action in enumerate(actions):
            top, middle = row * row_height, (row + 0.5) * row_height
            length = round(action.score * (width - 1))
            if length:
                draw.rectangle(
                    (0, top + 1, length, top + row_height - 2), fill=(*_colour_of(action), 130 if is_small else 200)
                )
            percent = f"{100 * action.score:.0f} %"
            percent_left = width - margin - font.getlength(percent)
            draw.text((percent_left, middle), percent, _WHITE, font, anchor="lm")
            name = self._names.action(action.verb_class, action.noun_class)
            name = _shortened(name, font, percent_left - 2 * margin)
            draw.text((margin, middle), name, _WHITE, font, anchor="lm")
        return panel

    def _draw_note(self, image: Image.Image, note: str) -> None:
        font = _font(self._font_height)
        box = Image.new("RGBA", (round(font.getlength(note)) + 8, self._font_height + 6), _DARK)
        ImageDraw.Draw(box).text((4, box.height / 2), note, _WHITE, font, anchor="lm")
        image.paste(box, (max(0, self._width - box.width), 0), box)

    def _strips(self, timeline: Timeline, second: float) -> Image.Image:
        """Draw the timeline around a moment: a strip of the true actions, if any are known, and one of the model's."""
        rows = [("true", timeline.true)] * bool(timeline.true) + [("model", timeline.predicted)]
        height = max(5, round(self._height / 22))
        strips = Image.new("RGBA", (self._width, height * len(rows)), _DARK)
        draw, font = ImageDraw.Draw(strips), _font(max(_SMALLEST_FONT, height - 5))
        has_text = height > _SMALLEST_FONT
        left = round(max(font.getlength(name) for name, _ in rows)) + 8 if has_text else 0
        span_s = min(timeline.end_s, _SPAN_S)
        start_s = min(max(0.0, second - span_s / 2), timeline.end_s - span_s)
        scale = (self._width - left) / max(span_s, 1e-6)  # pixels per second

        def x_of(moment_s: float) -> int:
            return round(left + min(max(moment_s - start_s, 0.0), span_s) * scale)

        for row, (_, segments) in enumerate(rows):
            for segment in segments:
                if segment.stop_s > start_s and segment.start_s < start_s + span_s:
                    box = (x_of(segment.start_s), row * height + 1, x_of(segment.stop_s) - 1, (row + 1) * height - 1)
                    self._draw_segment(draw, font if has_text else None, segment, box)
        if has_text:
            for row, (name, _) in enumerate(rows):
                draw.text((4, (row + 0.5) * height), name, _WHITE, font, anchor="lm")
        x = x_of(second)
        draw.rectangle((x - self._height // 300, 0, x + self._height // 300, strips.height), fill=_WHITE)
        return strips

    def _draw_segment(
        self, draw: ImageDraw.ImageDraw, font: _Font | None, segment: ActionSegment, box: tuple[int, int, int, int]
    ) -> None:
        left, top, right, bottom = box
        action = segment.action
        draw.rectangle((left, top, max(left, right), bottom), fill=(*_colour_of(action), 220))
        if font is not None:
            name = _shortened(self._names.action(action.verb_class, action.noun_class), font, right - left - 4)
            draw.text((left + 2, (top + bottom) / 2), name, _WHITE, font, anchor="lm")


@lru_cache
def _font(height: int) -> _Font:
    return ImageFont.load_default(size=height)


@lru_cache(maxsize=4096)
def _shortened(text: str, font: _Font, width: float) -> str:
    """Return as much of a text as is at most so many pixels wide; nothing if that is less than three letters."""
    if isinstance(font, ImageFont.FreeTypeFont) and font.size < _NARROW_SPACE:
        text = text.replace(" ", "  ")
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 2, -1):
        if font.getlength(f"{text[:length]}…") <= width:
            return f"{text[:length]}…"
    return ""


def _colour_of(action: Action) -> tuple[int, int, int]:
    """Return a colour that white text can be read on; neighbouring classes have very different ones."""
    golden = 0.618033988749895
    hue = (action.verb_class * NUM_NOUNS + action.noun_class) * golden % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.62)
    return round(255 * red), round(255 * green), round(255 * blue)
