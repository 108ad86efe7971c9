"""What stands elsewhere in older versions of timm is found, and is what the present one has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spikeattn.compat import timm_names

CIFAR = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "crop_pct": 1.0, "interpolation": "bicubic"}


def test_names_are_found_whichever_is_imported_first() -> None:
    code = "from spikeattn.compat.timm_names import trunc_normal_, registry, Mlp, PatchEmbed, Attention; import timm; "
    code += "print(callable(trunc_normal_), timm.is_model('sdt_8_512'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["True", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'Attentive'"):
        getattr(timm_names, "Attentive")  # noqa: B009 a name that is not there


def test_the_configuration_of_images_is_stated_then_the_models_then_timms() -> None:
    config = timm_names.data_config({"input_size": (3, 32, 32)}, CIFAR)
    assert (config["input_size"], config["mean"], config["crop_pct"]) == ((3, 32, 32), (0.5, 0.5, 0.5), 1.0)
    assert config["crop_mode"] == "center"
    assert timm_names.data_config({"in_chans": 3}, {})["mean"] == (0.485, 0.456, 0.406)


def test_an_image_becomes_a_tensor_of_the_configured_size() -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (40, 30), "white")
    x = timm_names.image_transform(timm_names.data_config({"input_size": (3, 24, 24)}, CIFAR))(image)
    assert x.shape == (3, 24, 24) and bool((x == 2).all())  # (1 - .5) / .25


def test_the_list_of_imagenets_classes_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    timms = pytest.importorskip("timm.data")
    if not hasattr(timms, "ImageNetInfo"):
        pytest.skip("this timm has no list of classes")
    ids, names, _ = timm_names.imagenet_classes()
    monkeypatch.delattr(timms, "ImageNetInfo")
    own, own_names, said = timm_names.imagenet_classes()
    assert own == ids == own_names and len(own) == 1000 and names[281].startswith("tabby")
    assert said.startswith("synset ids")
