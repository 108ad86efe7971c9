"""What `--data` takes: a name, and for all but the embedded ones a path after a colon."""

from __future__ import annotations

from typing import Any

from spikeattn.boundary.arguments import shown
from spikeattn.data.dataset import Dataset
from spikeattn.data.disk import expanded
from spikeattn.errors import SpikeattnError, unknown

DATA = {
    "digits": "scikit-learn's digits, held-out split, 1x16x16 (shipped with a dependency)",
    "digits-events": "the same digits as SIMULATED events of a small saccade, 2x16x16 (shipped with a dependency)",
    "digits-scenes": "the same digits somewhere on a black canvas, 1x32x32 (shipped with a dependency)",
    "cifar10:PATH": "CIFAR-10: folder with train.parquet and test.parquet (columns image, label), 3x32x32",
    "imagenet:PATH": "ImageNet-1k: folder with val/<wnid>/*.JPEG, or a tar of <wnid> folders",
    "folder:PATH": "any folder of images; its sub-folders are the classes",
    "nmnist:PATH": "N-MNIST prepared by SpikingJelly (PATH/events_np), 34x34",
    "dvs128-gesture:PATH": "DVS128 Gesture prepared by SpikingJelly (PATH/events_np), 128x128",
    "cifar10-dvs:PATH": "CIFAR10-DVS prepared by SpikingJelly (PATH/events_np), 128x128",
}


def open_dataset(spec: str, model: Any = None, *, time_steps: int | None = None, split: str | None = None) -> Dataset:
    """Open the data a user named, prepared as the model wants it.

    Args:
        spec: one of `DATA`, such as "digits" or "imagenet:/data/imagenet".
        model: any object that states its input by `in_chans`, `img_size`, `time_steps`, `num_classes` or timm's
            `pretrained_cfg`; None where nothing is known.
        time_steps: frames per recording of event data (the model's own number unless given); images have none.
        split: "train", "val" or "test" where the data set has it.

    Returns:
        A `Dataset`: sample i is (image float32 [C, H, W] or [T, C, H, W], label; -1 where unknown), or why it could not
        be read.

    Raises:
        SpikeattnError: an unknown name, nothing usable at the path, or data that the model does not take.
    """
    if not isinstance(spec, str):
        raise SpikeattnError(f"the data set is {shown(spec)}; give its name as text: {', '.join(DATA)}")
    try:
        return _open(spec, model, time_steps, split)
    except PermissionError as error:
        raise SpikeattnError(f"{spec}: no permission to read {error.filename}") from error
    except OSError as error:
        if not error.strerror:
            raise
        raise SpikeattnError(f"{spec[:300]}: cannot be read ({error.strerror})") from error


def _open(spec: str, model: Any, time_steps: int | None, split: str | None) -> Dataset:
    name, colon, path = spec.partition(":")
    names = {entry.partition(":")[0]: entry for entry in DATA}
    if name not in names:
        if spec and expanded(spec).exists():
            raise SpikeattnError(f"{spec!r} is a path without a name before it: folder:{spec} or imagenet:{spec}?")
        raise unknown("data", f"{name}:PATH" if colon else name, DATA)
    if name in ("digits", "digits-events", "digits-scenes") and colon:
        raise SpikeattnError(f"{spec!r}: {name} takes no path")
    if name == "digits":
        from spikeattn.data.digits import open_digits

        return open_digits(model, split=split)
    if name == "digits-events":
        from spikeattn.data.digits_events import open_digits_events

        return open_digits_events(model, time_steps=time_steps, split=split)
    if name == "digits-scenes":
        from spikeattn.data.digit_scenes import open_digit_scenes

        return open_digit_scenes(model, split=split)
    if not path:
        raise SpikeattnError(f"{spec!r} lacks the path: {names[name]}")
    if name == "cifar10":
        from spikeattn.data.cifar10 import open_cifar10

        return open_cifar10(path, model, split=split, spec=spec)
    if name in ("imagenet", "folder"):
        from spikeattn.data.images import open_folder, open_imagenet

        open_images = open_imagenet if name == "imagenet" else open_folder
        return open_images(path, model, split=split, spec=spec)
    from spikeattn.data.events import open_events

    return open_events(name, path, model, time_steps=time_steps, split=split, spec=spec)
