"""What benchmarks/check_device.py checks: a function for each part of its page, which yields lines."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from epic_like import encoded_once
from extraction import Regime, measure_regime
from training import BATCH_SIZE, INPUTS, NUM_SEGMENTS, make_set

from extract.backbones import Backbone, get, names
from extract.forward import Forward
from extract.weights.load import load_backbone
from features.device import need_half_precision
from features.errors import DataError, OptionError
from heads.config import InputSettings, make_config
from heads.data.layout import open_sources
from heads.data.load import TrainData, load_split
from heads.data.steps import Queries, Steps
from heads.models import catalogue as heads
from heads.models.model import Model, ModelConfig, StreamSpec
from heads.sweep.together import STACKABLE, GroupedRun, GroupTrainer
from heads.training.fit import fit, train_step
from heads.training.state import TrainingBatch, TrainingRun, start_run

CPU = torch.device("cpu")
_LOGITS_APART, _LEAST_COSINE = 1e-4, 0.999
NUM_RUNS = 8


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        gflops: of the largest backbone whose features are compared, per clip.
        turn_s: seconds that each head is timed for.
        together: the heads of which several runs are trained in one pass.
    """

    video_s: int
    regimes: tuple[Regime, ...]
    gflops: float
    num_segments: int
    dim: int
    turn_s: float
    together: tuple[str, ...]


LARGE = Size(
    video_s=60,
    regimes=(Regime("VideoMAE-B", "videomae_base_k400", 16, 60), Regime("ResNet-50", "resnet50", 16, 60)),
    gflops=1000,
    num_segments=16_384,
    dim=768,
    turn_s=2.0,
    together=STACKABLE,
)
SMALL = Size(
    video_s=6,
    regimes=(Regime("tiny_cnn", "tiny_cnn", 4, 6),),
    gflops=6,
    num_segments=128,
    dim=16,
    turn_s=0.1,
    together=("mean_pool", "transformer"),
)


@dataclass(frozen=True)
class Place:
    """A device, how much is measured there, and the folder of the data for it."""

    device: torch.device
    size: Size
    data: Path


@dataclass(frozen=True)
class Line:
    """What was found of one thing.

    Attributes:
        is_right: false where the device computes something else than it should, or fails.
    """

    name: str
    text: str
    is_right: bool = True
    figures: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"  {'ok  ' if self.is_right else 'FAIL'}  {self.name:24}{self.text}"


Check = Callable[[Place], Iterator[Line]]


def synchronize(device: torch.device) -> None:
    """Wait until a device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _each(items: tuple[str, ...] | list[str], found: Callable[[str], Line]) -> Iterator[Line]:
    """Yield the line of each item; an error is the line of its item."""
    for item in items:
        try:
            yield found(item)
        except Exception as error:  # noqa: BLE001  what fails is a line, not an end
            yield Line(item, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", is_right=False)


# ---- values


def logits_of_heads(place: Place) -> Iterator[Line]:
    """Every head at its default size, in float32, on segments of many lengths with context."""

    def found(name: str) -> Line:
        torch.manual_seed(0)
        shares = heads.reads_windows(name)
        inputs = InputSettings(window=20.0, window_hop=2.0) if shares else InputSettings(context=1.0)
        options = heads.head_options_for(name, {}, place.size.num_segments)
        model = Model(ModelConfig(name, options, False, (StreamSpec("none", 64),), inputs)).eval()
        steps = _steps(64)
        queries = Queries(torch.tensor([[[-1.0, 1.0]]]).expand(24, 1, 2), torch.arange(24)) if shares else None
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            expected = model((steps,), queries)
            steps = steps.map(lambda part: part.to(place.device))
            queries = queries and Queries(*(part.to(place.device) for part in queries))
            logits = model.to(place.device)((steps,), queries)
        apart = max(float((logits[task].cpu() - expected[task]).abs().max()) for task in expected)
        return Line(name, f"logits differ by {apart:.1e} at most", apart <= _LOGITS_APART, {"apart": apart})

    return _each(heads.names(), found)


def _steps(dim: int) -> Steps:
    """Return 24 segments of 1 to 24 steps, the first and last of which are context where there are three or more."""
    lengths = torch.arange(1, 25)[:, None]
    step = torch.arange(24)
    mask = step < lengths
    within = mask & ((lengths < 3) | ((step > 0) & (step < lengths - 1)))
    seconds = torch.where(mask, 0.2 * (step - lengths / 2), 0.0)
    return Steps(torch.randn(24, 24, dim), mask, seconds, within)


def features_of_backbones(place: Place) -> Iterator[Line]:
    """The smallest backbone of each family, with random weights: float32 as on the CPU, half precision beside it."""
    try:
        need_half_precision(place.device)
        precision = "bfloat16"
    except OptionError as error:
        yield Line("bfloat16", f"not compared: {error}")
        precision = "float32"

    def found(name: str) -> Line:
        try:
            network, _ = load_backbone(get(name), "random:0")
        except DataError as error:  # a library that this torch goes with is too old for it
            return Line(name, f"left out: {error}")
        expected = _features(network, get(name), CPU, "float32")
        full, half = (_features(network, get(name), place.device, each) for each in ("float32", precision))
        cosines = [float(torch.cosine_similarity(one, expected, dim=-1).min()) for one in (full, half)]
        text = f"cosine with the CPU {cosines[0]:.6f}, in {precision} {cosines[1]:.6f}"
        figures = {"cosine": cosines[0], "cosine_half": cosines[1]}
        return Line(name, text, min(cosines) >= _LEAST_COSINE, figures)

    yield from _each(_smallest_of_families(place.size.gflops), found)


def _smallest_of_families(gflops: float) -> list[str]:
    chosen: dict[str, Backbone] = {}
    for entry in sorted(map(get, names()), key=lambda entry: entry.gflops):
        chosen.setdefault(entry.family, entry)
    return [entry.name for entry in chosen.values() if entry.gflops <= gflops]


def _features(network: torch.nn.Module, entry: Backbone, device: torch.device, precision: str) -> torch.Tensor:
    crop = entry.preprocess.crop or entry.preprocess.resize
    clip = torch.randn(1, 3, entry.clip.num_frames, *crop, generator=torch.Generator().manual_seed(0))
    return Forward(network, entry.preprocess, device, precision).steps(clip.to(device)).get()


def resuming(place: Place) -> Iterator[Line]:
    """A run that is begun on one device and goes on on the other; a loss that is not finite is an error."""
    there = f"{place.device.type} to cpu", f"cpu to {place.device.type}"

    def found(name: str) -> Line:
        first, second = (place.device, CPU) if name == there[0] else (CPU, place.device)
        settings = {"epochs": 2, "batch_size": BATCH_SIZE, "ema": 0.9}
        config = make_config("transformer", {"width": 64, "hidden": 64, "attention_heads": 4}, settings)
        with tempfile.TemporaryDirectory() as folder:
            fit(config, _data(place, first, 128), Path(folder), device=first, until=1)
            loss = fit(config, _data(place, second, 128), Path(folder), device=second).metrics["train_loss"]
        return Line(name, f"loss {loss:.3f} in the second epoch", figures={"loss": loss})

    return _each(list(dict.fromkeys(there)), found)


def _data(place: Place, device: torch.device, num_segments: int) -> TrainData:
    size = place.size
    root, segments = make_set(place.data, num_segments=size.num_segments, num_videos=16, dim=size.dim)
    mask = torch.arange(len(segments)) < num_segments
    sources, chosen = open_sources([root], INPUTS), segments.where(mask.numpy())
    split = load_split(sources, chosen, INPUTS, allow_missing=False, device=device)
    return TrainData(sources, split, None, None, {})


# ---- speed


def extraction(place: Place) -> Iterator[Line]:
    """Extraction against its floor, as benchmarks/extraction.py has it."""
    video = encoded_once(place.data / f"epic_like_{place.size.video_s}s.mp4", place.size.video_s)
    regimes = {regime.name: regime for regime in place.size.regimes}

    def found(name: str) -> Line:
        _reset_peak(place.device)
        result = measure_regime(regimes[name], place.device, video, repeats=1, alternatives=False)
        teraflops = 2 * get(result.backbone).gflops * result.num_clips / result.backbone_floor_s / 1000
        figures = {
            "decode_s": result.decode_floor_s,
            "backbone_s": result.backbone_floor_s,
            "pipeline_s": result.pipeline_s,
            "over_floor": result.pipeline_over_floor,
            "teraflops": teraflops,
            "peak_gb": _peak_gb(place.device),
        }
        text = (
            f"decoding {result.decode_floor_s:.1f} s, backbone {result.backbone_floor_s:.1f} s ({teraflops:.3g} TF/s), "
            f"pipeline {result.pipeline_s:.1f} s, {result.pipeline_over_floor:.2f} of the floor; "
            f"{figures['peak_gb']:.1f} GB"
        )
        return Line(name, text, figures=figures)

    return _each(list(regimes), found)


def epochs_of_heads(place: Place) -> Iterator[Line]:
    """Seconds of an epoch as long as that of EPIC-KITCHENS-100, and the share of the data path."""
    data = _data(place, place.device, place.size.num_segments)

    def found(name: str) -> Line:
        _reset_peak(place.device)
        with tempfile.TemporaryDirectory() as folder:
            run = _started(name, data, Path(folder), place)
            prepared = list(itertools.islice(run.batches(), 32))
            step_s = _step_s(run, run.batches, place)
            without_data_s = _step_s(run, lambda: iter(prepared), place)
        share = max(0.0, 1 - without_data_s / step_s)
        epoch_s = step_s * NUM_SEGMENTS / BATCH_SIZE
        figures = {"epoch_s": epoch_s, "data_share": share, "peak_gb": _peak_gb(place.device)}
        return Line(
            name, f"{epoch_s:.1f} s an epoch, data path {share:.1%}; {figures['peak_gb']:.1f} GB", figures=figures
        )

    return _each([name for name in heads.names() if not heads.is_fitted(name)], found)


def runs_together(place: Place) -> Iterator[Line]:
    """Eight runs in one pass against one after the other."""
    data = _data(place, place.device, min(place.size.num_segments, 32 * BATCH_SIZE))

    def found(name: str) -> Line:
        with tempfile.TemporaryDirectory() as folder:
            runs = [_started(name, data, Path(folder) / f"{seed}", place, seed=seed) for seed in range(NUM_RUNS)]
            members = [GroupedRun(run, None) for run in runs]
            group = GroupTrainer(members)
            alone = _started(name, data, Path(folder) / "alone", place)
            alone_s, together_s = (
                _seconds(call, place.device) for call in (lambda: _train_epoch(alone), group.train_epoch)
            )
        gain = NUM_RUNS * alone_s / together_s
        return Line(name, f"{gain:.2f} times as fast as one by one", figures={"gain": gain})

    return _each(place.size.together, found)


def _started(name: str, data: TrainData, folder: Path, place: Place, *, seed: int = 0) -> TrainingRun:
    options = heads.head_options_for(name, {}, NUM_SEGMENTS if place.size is LARGE else len(data.train))
    config = make_config(name, options, {"seed": seed, "batch_size": BATCH_SIZE, "mixup": 0.0, "epochs": 2})
    return start_run(config, data, folder, device=place.device)


def _step_s(run: TrainingRun, source: Callable[[], Iterator[TrainingBatch]], place: Place) -> float:
    """Return the seconds of a step, after a first one that is not counted."""
    endless = itertools.chain.from_iterable(iter(source, None))
    train_step(run, next(endless))
    synchronize(place.device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < place.size.turn_s:
        train_step(run, next(endless))
        count += 1
    synchronize(place.device)
    return (time.perf_counter() - began) / count


def _train_epoch(run: TrainingRun) -> None:
    for batch in run.batches():
        train_step(run, batch)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, after a first one that is not counted."""
    call()
    synchronize(device)
    began = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - began


# ---- memory


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak_gb(device: torch.device) -> float:
    """Return the most memory that tensors took on a CUDA device; on MPS what its driver holds now, on a CPU 0."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return torch.mps.driver_allocated_memory() / 1e9 if device.type == "mps" else 0.0


CHECKS: dict[str, Check] = {
    "Logits of heads": logits_of_heads,
    "Features of backbones": features_of_backbones,
    "Resuming on another device": resuming,
    "Extraction": extraction,
    "Training": epochs_of_heads,
    f"{NUM_RUNS} runs in one pass": runs_together,
}
