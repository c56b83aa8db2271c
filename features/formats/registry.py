"""The registry of formats: how published features lie on disk. The files of this folder open them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from features.errors import OptionError, unknown_name
from features.formats.detection import OPENTAD, open_actionformer, open_opentad
from features.formats.mtcn import open_mtcn
from features.formats.plain import open_plain
from features.formats.rulstm import WIDTHS, open_rulstm
from features.formats.source import Request, Source
from features.formats.tim import PARTS, open_tim

_GRID = ("fps", "stride", "offset")


@dataclass(frozen=True)
class Format:
    """The record of one format.

    Attributes:
        publication: who made the features, for the record of a set.
        open: opens the files.
        parts: values of --part; with any, one has to be given.
        options: other options that the format takes.
    """

    publication: str
    open: Callable[[Request], Source]
    parts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "actionformer": Format("ActionFormer (Zhang et al., ECCV 2022)", open_actionformer, options=_GRID),
    "hdf5": Format("unknown", open_plain(".hdf5", ".h5"), options=_GRID),
    "mtcn": Format("MTCN (Kazakos et al., BMVC 2021)", open_mtcn, parts=("visual", "audio")),
    "npy": Format("unknown", open_plain(".npy"), options=_GRID),
    "npz": Format("unknown", open_plain(".npz"), options=_GRID),
    "opentad": Format("OpenTAD (Liu et al., 2025)", open_opentad, parts=tuple(OPENTAD), options=_GRID),
    "pt": Format("unknown", open_plain(".pt", ".pth", ".pkl"), options=_GRID),
    "rulstm": Format("RULSTM (Furnari and Farinella, ICCV 2019)", open_rulstm, parts=tuple(WIDTHS)),
    "tim": Format("TIM (Chalk et al., CVPR 2024)", open_tim, parts=tuple(PARTS), options=("intervals",)),
}


def get(name: str) -> Format:
    """Return the record of a format; raise OptionError, with the nearest known name, if there is none."""
    if name not in FORMATS:
        raise unknown_name(None, "format", name, FORMATS)
    return FORMATS[name]


def open_source(name: str, request: Request) -> Source:
    """Open files in a format.

    Raises:
        OptionError: there is no such format, it needs an option that is not given, or does not take one that is.
        DataError: the files are not of this format, or are damaged.
    """
    chosen = get(name)
    for option in fields(Request):
        if option.name in ("path", "segments", "part", *chosen.options):
            continue
        if getattr(request, option.name) not in (None, ()):
            raise OptionError(f"--{option.name}", f"is not an option of {name}, whose rows have times of their own.")
    if request.part is not None and not chosen.parts:
        raise OptionError("--part", f"{name} has no parts.")
    if chosen.parts and request.part is None:
        raise OptionError("--part", f"is needed: {name} has {', '.join(chosen.parts)}.")
    if chosen.parts and request.part not in chosen.parts:
        raise unknown_name("--part", f"part of {name}", str(request.part), chosen.parts)
    return chosen.open(request)
