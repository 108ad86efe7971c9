"""Detectors, segmenters and language models: counts as ever, no accuracy, and the reason said once."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.cli.run_summary import summary_text
from spikeattn.errors import SpikeattnError
from tests.any_spikingjelly import layer, neuron
from tests.counting.brute_force import assert_exact, exact, pictures

T = 3
IMAGES, CLASSES = pictures(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4])


def lif() -> nn.Module:
    return neuron.LIFNode(step_mode="m", v_threshold=0.5)


def conv(into: int, out: int, size: int = 3, stride: int = 1) -> nn.Module:
    return layer.Conv2d(into, out, size, stride, size // 2, step_mode="m")


class Maps(nn.Module):
    """[B, 3, 8, 8] -> `form` of a map per scale: at each position 4 numbers of a box, how sure it is, and a class."""

    def __init__(self, form: Callable[[list[Tensor]], Any]) -> None:
        super().__init__()
        self.c1, self.l1, self.c2, self.l2 = conv(3, 8), lif(), conv(8, 8, stride=2), lif()
        self.heads, self.form = nn.ModuleList([conv(8, 6, 1), conv(8, 6, 1)]), form

    def forward(self, x: Tensor) -> Any:
        fine = self.l1(self.c1(x.expand(T, *x.shape)))
        coarse = self.l2(self.c2(fine))
        return self.form([head(y).mean(0) for head, y in zip(self.heads, (fine, coarse), strict=True)])


def rows(maps: list[Tensor]) -> Tensor:
    return torch.cat([y.flatten(2).transpose(1, 2) for y in maps], 1)  # [B, 80, 6]


def boxes(maps: list[Tensor]) -> list[dict[str, Tensor]]:
    """As torchvision's detectors: of each image the boxes that are sure enough, as many as there are."""
    kept = [each[each[:, 4] > 0] for each in rows(maps)]
    return [{"boxes": y[:, :4], "scores": y[:, 4], "labels": y[:, 5].long()} for y in kept]


@dataclass
class Output(OrderedDict):
    """As the outputs of Hugging Face's transformers: a dict whose entries are attributes, too."""

    loss: Any = None
    logits: Any = None

    def __post_init__(self) -> None:
        self.update({name: value for name, value in vars(self).items() if value is not None})


FORMS: dict[str, tuple[Callable[[list[Tensor]], Any], str]] = {
    "maps": (lambda maps: maps, "list of [B, 6, 8, 8], [B, 6, 4, 4]"),
    "rows": (rows, "[B, 80, 6]"),
    "rows and maps": (lambda maps: (rows(maps), maps), "tuple of [B, 80, 6], list of [B, 6, 8, 8], [B, 6, 4, 4]"),
    "boxes": (boxes, "list, one for each image, of dict of 'boxes' [#, 4], 'scores' [#], 'labels' [#]"),
    "masks": (lambda maps: OrderedDict(out=maps[0]), "OrderedDict of 'out' [B, 6, 8, 8]"),
    "model output": (lambda maps: Output(logits=maps[0]), "Output of 'logits' [B, 6, 8, 8]"),
    "several names": (
        lambda maps: {"box": maps[0].mean((2, 3)), "kind": maps[1].mean((2, 3))},
        "dict of 'box' [B, 6], 'kind' [B, 6], none of them called 'logits'",
    ),
    "all in one": (lambda maps: rows(maps).flatten(0, 1), "[80*B, 6]"),
}


@pytest.mark.parametrize("name", FORMS)
def test_outputs_that_are_no_classes(name: str) -> None:
    form, words = FORMS[name]
    model = exact(Maps(form))
    images = assert_exact(model, IMAGES, macs_once=2 * 8 * 8 * 8 * 27)  # the still image meets the first layer once
    assert images.time_steps == T and not images.warnings
    profile = sa.profile(model, [(IMAGES[:3], CLASSES[:3]), (IMAGES[3:], CLASSES[3:])])
    assert [c for c in profile.counts.rows if c.startswith("pred_")] == []
    why = f"the output holds no class scores [B, classes]: it is {words}"
    assert profile.no_accuracy is not None
    assert re.sub(r"\[\d+(?=[\],])", "[#", profile.no_accuracy) == why
    assert profile.provenance["no_accuracy"] == profile.no_accuracy == profile.summary()["no_accuracy"]
    assert profile.summary()["accuracy"] is None and [note.code for note in profile.warnings] == ["no-accuracy"]
    printed = "\n".join(map(str, summary_text(profile, full=False)))
    assert printed.count("no class scores") == 1
    assert f"accuracy   not known: {profile.no_accuracy}\n" in printed


@pytest.mark.parametrize(
    "form",
    [
        lambda maps: {"loss": maps[0].mean(), "logits": maps[0].mean((2, 3)), "features": maps[1].mean((2, 3))},
        lambda maps: Output(logits=maps[0].mean((2, 3))),
        lambda maps: (maps[0].mean((2, 3)), maps[1].mean((2, 3))),
        lambda maps: {"features": maps[1].mean((2, 3)), "logits": maps[0].mean((2, 3))},
    ],
)
def test_class_scores_among_other_things(form: Any) -> None:
    usual = sa.profile(exact(Maps(lambda maps: maps[0].mean((2, 3)))), [(IMAGES, CLASSES)])
    profile = sa.profile(exact(Maps(form)), [(IMAGES, CLASSES)])
    assert profile.no_accuracy is None and "no_accuracy" not in profile.provenance
    assert profile.counts.rows[f"pred_{T}"].tolist() == usual.counts.rows[f"pred_{T}"].tolist()


BOXES: list[Any] = [{"boxes": torch.rand(n, 4), "labels": torch.zeros(n).long()} for n in range(5)]
TARGETS: dict[str, tuple[Any, str]] = {
    "masks": (torch.zeros(5, 8, 8).long(), "[B, 8, 8]"),
    "one mask of one channel": (torch.zeros(5, 1, 8, 8), "[B, 1, 8, 8]"),
    "a dict per image": (BOXES, "list of dict of 'boxes', 'labels'"),
    "in a tuple": (tuple(BOXES), "tuple of dict of 'boxes', 'labels'"),
    "one dict": ({"boxes": torch.rand(5, 2, 4), "class": torch.zeros(5, 2)}, "dict of 'boxes', 'class'"),
    "rows of all images": (torch.rand(7, 6), "[N, 6]"),
    "boxes of each image": ([torch.rand(n, 5) for n in range(1, 6)], "list of Tensor"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_labels_of_another_task(name: str) -> None:
    labels, words = TARGETS[name]
    model = exact(Maps(rows))
    profile = sa.profile(model, [(IMAGES, labels)])
    told = f"the labels ({words}) are no class per image"
    assert profile.no_accuracy is not None and profile.no_accuracy.endswith(f"it is [B, 80, 6]; {told}")
    assert profile.provenance["targets"] == words and profile.summary()["labelled_images"] == 0
    alone = sa.profile(model, [IMAGES])
    assert (alone.counts.column("nnz", "l2") == profile.counts.column("nnz", "l2")).all()
    assert alone.no_accuracy is not None and alone.no_accuracy.endswith("; the images have no labels")
    assert alone.warnings == ()  # nobody asked for an accuracy
    classes = sa.profile(exact(Maps(lambda maps: maps[0].mean((2, 3)))), [(IMAGES, labels)])
    assert classes.no_accuracy == told


def test_labels_that_are_classes_in_another_form() -> None:
    model = exact(Maps(lambda maps: maps[0].mean((2, 3))))
    for shares in (torch.eye(6)[CLASSES], torch.eye(6)[CLASSES].tolist(), torch.full((5, 6), 1 / 6).half()):
        with pytest.raises(SpikeattnError, match=r"labels of shape \(5, 6\).*labels.argmax\(1\)"):
            sa.profile(model, [(IMAGES, shares)])
    assert sa.profile(model, [(IMAGES, CLASSES[:, None])]).no_accuracy is None


def test_targets_in_dicts_and_beside_frames() -> None:
    named = sa.profile(exact(Maps(rows)), [{"image": IMAGES, "target": BOXES}, {"image": IMAGES, "labels": BOXES[0]}])
    assert named.n_images == 10 and named.provenance["targets"] == "list of dict of 'boxes', 'labels'"
    tokens = torch.randint(0, 5, (4, 6))
    both = sa.profile(exact(Words()), [{"input_ids": tokens, "labels": tokens.roll(-1, 1)}])
    assert both.no_accuracy is not None and both.no_accuracy.endswith("the labels ([B, 6]) are no class per image")


class Words(nn.Module):
    """[B, L] token ids -> [B, L, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.lif, self.head = nn.Embedding(5, 4), lif(), nn.Linear(4, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids)
        return self.head(self.lif(x.expand(T, *x.shape))).mean(0)


def test_an_output_of_nothing() -> None:
    profile = sa.profile(exact(Maps(lambda maps: None)), [(IMAGES, CLASSES)])
    assert profile.no_accuracy == "the output holds no class scores [B, classes]: it is None"


def test_a_configuration_that_is_no_dict() -> None:
    """As language models keep theirs: an object, whose entries are kept as far as JSON holds them."""

    class Config:
        def __init__(self) -> None:
            self.n_layer, self.names, self.dtype = 2, ["a"], torch.float32

    class Hugging(Config):
        def to_dict(self) -> dict[str, Any]:
            return {"n_layer": 3}

    for config, kept in ((Config(), {"n_layer": 2, "names": ["a"]}), (Hugging(), {"n_layer": 3}), (None, {})):
        model: Any = exact(Maps(rows))
        model.config = config
        assert sa.profile(model, [IMAGES]).ledger.model["config"] == kept


def test_a_target_of_the_images_own_shape() -> None:
    class Clean(Maps):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x.expand(-1, 3, -1, -1))

    model, grey = exact(Clean(rows)), IMAGES[:, :1]
    classes = sa.profile(model, [(grey, torch.zeros(5, 1, 8, 8).long())])  # of pixels
    assert classes.provenance["targets"] == "[B, 1, 8, 8]"
    with pytest.raises(SpikeattnError, match=r"tuple of 2 tensors of one shape.*by \(batch\[0\] for batch in loader\)"):
        sa.profile(model, [(grey, grey)])
    assert sa.profile(model, (batch[0] for batch in [(grey, grey)])).n_images == 5
