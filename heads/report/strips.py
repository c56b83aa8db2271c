"""The gallery of a page as HTML: filters, and a strip of frames for each segment. Computes nothing.

A strip is in a `<template>` until gallery.js shows it, so a browser decodes no picture that nobody looks at.
"""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from features.errors import first_few
from heads.report.document import Section
from heads.report.examples import NUM_PAIRS, REASONS
from heads.report.gallery import FRAMES_PER_STRIP, Box, Example, Gallery, Guess, Picture, Strip

_BOXES = {"left": "left hand", "right": "right hand", "held": "held object"}
_RIGHT = {True: "right", False: "wrong"}


def gallery_section(gallery: Gallery) -> Section:
    """Return the section of a gallery in words, without its strips."""
    other = gallery.examples.other
    disagreement = "" if other is None else f"segments on which {gallery.examples.best} and {other} disagree, "
    text: tuple[str, ...] = (
        f"{FRAMES_PER_STRIP} frames of each segment, spread evenly over it. Shown are confident mistakes, the "
        f"{NUM_PAIRS} most confused pairs of nouns and of verbs, {disagreement}and random segments, about equally many "
        "of each. Percentages are the probabilities that the best row gives to the predicted and to the true class. "
        "The arrow keys \u2190 and \u2192 step from strip to strip.",
    )
    if gallery.has_boxes:
        text += ("Boxes: the left hand is blue, the right hand orange, and what a hand holds yellow.",)
    return Section("gallery", "Gallery", of_best=True, text=text, absent=tuple(_absent(gallery)))


def _absent(gallery: Gallery) -> Iterator[str]:
    if gallery.examples.other is None:
        yield "Segments on which two runs disagree: no other row predicts the same segments."
    missing = sum(bool(strip.missing) for strip in gallery.strips)
    if missing:
        yield f"{missing} of {len(gallery.strips)} strips have no frames; each says why."
    if gallery.without_boxes:
        yield f"Videos without boxes of hands: {first_few(gallery.without_boxes, limit=3)}"
    if gallery.num_left_out:
        yield f"{gallery.num_left_out} more strips were left out, as the page would have been too large."


def gallery_strips(gallery: Gallery) -> str:
    """Return the filters and strips of a gallery as HTML."""
    templates = "\n".join(_template(strip, gallery.examples.other) for strip in gallery.strips)
    return (
        f'<div class="gallery">\n<div class="filters" role="group" aria-label="Filters">{_filters(gallery)}</div>\n'
        '<p class="soft" role="status"></p>\n<ol class="strips"></ol>\n'
        f'<button type="button" class="more" hidden>Show more</button>\n{templates}\n</div>'
    )


def _facets(example: Example) -> dict[str, set[str]]:
    """Return the values by which an example is found: name of a filter -> values."""
    return {
        "reason": {REASONS[reason] for reason in example.reasons},
        "right": {_RIGHT[example.is_right]},
        "verb": {example.verb.truth, example.verb.predicted},
        "noun": {example.noun.truth, example.noun.predicted},
        "participant": {example.participant_id},
    }


_FILTERS = {
    "reason": "Shown as",
    "right": "Right or wrong",
    "verb": "Verb (true, predicted)",
    "noun": "Noun (true, predicted)",
    "participant": "Participant",
}


def _filters(gallery: Gallery) -> str:
    facets = [_facets(strip.example) for strip in gallery.strips]
    return "".join(_filter(name, label, [of_strip[name] for of_strip in facets]) for name, label in _FILTERS.items())


def _filter(name: str, label: str, values: Sequence[Iterable[str]]) -> str:
    counts = Counter(value for of_strip in values for value in of_strip)
    options = "".join(
        f'<option value="{html.escape(value)}">{html.escape(value)} ({counts[value]})</option>'
        for value in sorted(counts)
    )
    return f'<label>{label}<select name="{name}"><option value="">all</option>{options}</select></label>'


def _template(strip: Strip, other: str | None) -> str:
    facets = "".join(
        f' data-{name}="{html.escape(json.dumps(sorted(values)))}"' for name, values in _facets(strip.example).items()
    )
    return f"<template{facets}>{_strip(strip, other)}</template>"


def _strip(strip: Strip, other: str | None) -> str:
    example = strip.example
    frames = f'<div class="frames">{"".join(_frame(picture, example) for picture in strip.pictures)}</div>'
    if strip.missing:
        frames = f'<p class="absent">No frames: {html.escape(strip.missing)}</p>'
    reasons = "".join(f"<li>{words}</li>" for reason, words in REASONS.items() if reason in example.reasons)
    guesses = "".join(_guess(task, guess, other) for task, guess in _guesses(example).items())
    when = f"{_time(example.start_s)} to {_time(example.stop_s)} ({example.stop_s - example.start_s:.1f} s)"
    narration = html.escape(example.narration or "no narration")
    return (
        f'<article tabindex="-1" class="{_RIGHT[example.is_right]}">{frames}<div class="words">'
        f'<div><h3>{narration}</h3><p class="soft">{html.escape(example.narration_id)}, {when}</p>'
        f'<ul class="reasons">{reasons}</ul></div><dl>{guesses}</dl></div></article>'
    )


def _guesses(example: Example) -> Mapping[str, Guess]:
    return {"verb": example.verb, "noun": example.noun}


def _guess(task: str, guess: Guess, other: str | None) -> str:
    sign = "\u2713" if guess.is_right else "\u2717"
    said = _scored(guess.predicted, guess.predicted_score)
    text = f"{said}, right" if guess.is_right else f"{said} instead of {_scored(guess.truth, guess.truth_score)}"
    if other is not None and guess.other is not None and guess.other != guess.predicted:
        text += f'<span class="other">{html.escape(other)}: {html.escape(guess.other)}</span>'
    return (
        f'<dt>{task}</dt><dd class="{_RIGHT[guess.is_right]}"><b aria-hidden="true">{sign}</b><span>{text}</span></dd>'
    )


def _scored(name: str, score: float) -> str:
    return f'<span class="class">{html.escape(name)}</span> <span class="score">{100 * score:.1f} %</span>'


def _frame(picture: Picture, example: Example) -> str:
    data = base64.b64encode(picture.jpeg).decode()
    time = _time(picture.second)
    image = (
        f'<img src="data:image/jpeg;base64,{data}" width="{picture.width}" height="{picture.height}" '
        f'alt="{html.escape(example.narration_id)} at {time}">'
    )
    return f'<div><div class="frame">{image}{_boxes(picture.boxes)}</div><p class="soft">{time}</p></div>'


def _boxes(boxes: Sequence[Box]) -> str:
    """Return rectangles that lie over a picture of any size."""
    rectangles = "".join(
        f'<rect class="{box.name}" x="{box.left:.4f}" y="{box.top:.4f}" width="{box.width:.4f}" '
        f'height="{box.height:.4f}"><title>{_BOXES[box.name]}</title></rect>'
        for box in boxes
    )
    return f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{rectangles}</svg>' if boxes else ""


def _time(second: float) -> str:
    """Return a second of a video as a player shows it.

    >>> _time(3723.456), _time(7.999)
    ('1:02:03.46', '0:08.00')
    """
    minutes, hundredths = divmod(round(100 * second), 6000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{start}:{hundredths // 100:02}.{hundredths % 100:02}"
