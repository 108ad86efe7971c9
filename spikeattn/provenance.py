"""What a run rests on: model, data, device, neurons, precision and versions."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from spikeattn.compat.spikingjelly_version import spikingjelly_version
from spikeattn.compat.version import __version__
from spikeattn.models.neuron_backend import implementation_in_use
from spikeattn.storage.settings import Settings
from spikeattn.tracing.nested_tensors import numbers_of

# Settings that move rounding and nothing else (another kernel, another order of sums); all others change the counts.
MIXABLE = (
    "device",
    "device_name",
    "neurons",
    "threads",
    "path",
    "tf32",
    "cudnn_benchmark",
    "spikeattn",
    "torch",
    "spikingjelly",
    "timm",
    "data.spec",
    "data.versions",
    "model.neurons",
    # Where the code lies and what it is called; what it says is in "model.code.files".
    "model.code.file",
    "model.code.commit",
    "model.code.replaced",
)


@dataclass(frozen=True)
class Difference:
    """One entry in which two records of settings differ.

    Attributes:
        name: dotted.
        mixable: whether counts may still be joined if the user wants it.
    """

    name: str
    old: Any
    new: Any

    @property
    def mixable(self) -> bool:
        return any(self.name == entry or self.name.startswith(f"{entry}.") for entry in MIXABLE)


def device_of(model: nn.Module) -> torch.device:
    """The device a model's parameters are on; the CPU for a model without any."""
    return next((p.device for p in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def describe(model: nn.Module) -> dict[str, Any]:
    """Name, class, parameters and configuration of a model, and whether its weights are trained (None: not known)."""
    known = getattr(model, "provenance", {})
    return {
        "name": known.get("name", type(model).__name__),
        "class": known.get("class", f"{type(model).__module__}.{type(model).__qualname__}"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": known.get("trained"),
        "config": dict(known["config"]) if "config" in known else _config_of(model),
    }


def _config_of(model: nn.Module) -> dict[str, Any]:
    """What a model keeps as its `config`: a dict, or an object as language models have; of the latter what JSON holds.

    `to_dict` is that of Hugging Face's configurations.
    """
    config = getattr(model, "config", {})
    if isinstance(config, Mapping):
        return dict(config)
    entries = config.to_dict() if callable(getattr(config, "to_dict", None)) else getattr(config, "__dict__", {})
    return {str(key): value for key, value in entries.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def provenance_of(
    model: nn.Module, loader: Iterable[Any], images: Tensor | None = None, path: str = "plain"
) -> dict[str, Any]:
    """Everything a rerun needs; JSON types only. Counts may be joined only where `settings` are equal.

    `images` is the first batch, whose shape without the batch is kept; before it is read there is none to keep. `path`
    is what ran, see `fast.prepare.choose`.
    """
    data = getattr(loader, "dataset", None)
    device = device_of(model)
    cuda = device.type == "cuda"
    known = dict(getattr(model, "provenance", {}))
    settings = Settings(
        model=known,
        weights_sha256=weights_hash(model),
        data=None if data is None or not hasattr(data, "provenance") else data.provenance(),
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        neurons=implementation_in_use(device),
        threads=torch.get_num_threads(),
        dtype=str(next((p.dtype for p in model.parameters()), torch.float32)).removeprefix("torch."),
        input=None if images is None else tuple(images.shape[1:]),
        path=path,
        tf32=bool(cuda and torch.backends.cudnn.allow_tf32),
        cudnn_benchmark=bool(cuda and torch.backends.cudnn.benchmark),
        spikeattn=__version__,
        torch=torch.__version__,
        spikingjelly=spikingjelly_version(),
        timm=timm.__version__,
    )
    plain = json.loads(json.dumps(_worded(settings.record()), allow_nan=False))  # as it is read back: tuples are lists
    entries = {"settings": plain, "python": platform.python_version(), "platform": platform.platform()}
    classes = _classes_of(data)
    return entries if classes is None else {**entries, "classes": classes}


def _classes_of(data: Any) -> int | None:
    """How many classes a data set names, or the one that it is a selection of; None where it names none.

    Beside the settings, not among them: a run of an earlier version, which does not say it, may still be resumed.
    """
    while data is not None:
        named = getattr(data, "classes", None)
        if isinstance(named, list | tuple) and named:
            return len(named)
        data = getattr(data, "dataset", None)
    return None


def _worded(value: Any) -> Any:
    """The record with "NaN", "Infinity" and "-Infinity" as text, for which JSON has no number, and NaN no equal."""
    if isinstance(value, Mapping):
        return {key: _worded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_worded(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def weights_hash(model: nn.Module) -> str:
    """Sha256 of every parameter and buffer of a model: name, type, shape and bits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            shape = "nested" if tensor.is_nested else list(tensor.shape)
            digest.update(f"{name} {tensor.dtype} {shape}\n".encode())
            tensor = tensor.detach().cpu()
            if tensor.layout != torch.strided and not tensor.is_nested:
                tensor = tensor.to_dense()
            if tensor.is_nested or tensor.is_quantized or tensor.is_conj():
                tensor = numbers_of(tensor)
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def differences(old: Any, new: Any, name: str = "") -> Iterator[Difference]:
    """The entries in which two records of settings differ, in their order."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if _worded(old) != _worded(new):  # the first edition wrote NaN as a number that no JSON has
            yield Difference(name, old, new)
        return
    for key in {**old, **new}:
        yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
