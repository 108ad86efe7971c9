"""Attended images, ready to be drawn: all those of a network on one scale, so that a colour means one score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.colors import Normalize

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.questions import answers
from spikeattn.attention.regularize import METHOD
from spikeattn.reporting.figures.attention_drawing import Floats, Seen, scale_of
from spikeattn.reporting.figures.input_pictures import is_events
from spikeattn.reporting.tables.attention_tables import rule_of, significant
from spikeattn.spurious import SpuriousEnergy


@dataclass(frozen=True)
class Views:
    """How the images of one network are drawn; the last layer is, where there are several.

    Attributes:
        model: name of the network, with UNTRAINED where its weights are random.
        score: what a score of the map is, with its unit.
        details: how the maps were made and tested, in a line.
        scale: of the maps.
        most_energy: mJ of the token that takes most; None where no energy was measured.
        blocks: whose energy it is, in words.
        method, threshold: of what is significant.
    """

    model: str
    score: str
    details: str
    scale: Normalize
    most_energy: float | None = None
    blocks: str = ""
    method: str = METHOD
    threshold: float | None = None

    def of(
        self, name: str, attention: Attention, image: Floats, picture: Floats, energy: tuple[Floats, Floats] | None
    ) -> Seen:
        """One image.

        Args:
            attention: to it alone.
            image: as the network takes it.
            picture: RGB [H, W, 3].
            energy: mJ of every token in all blocks, and the part of it spent on noise, [h, w].
        """
        spent, spurious = (None, None) if energy is None else energy
        return Seen(
            name=name, model=self.model, picture=picture, score=self.score, map=last_map(attention),
            significant={
                question: significant(answer.significance[-1], self.method, self.threshold)
                for question, answer in answers(attention).items()
            },
            rule=rule_of(self.method, self.threshold), details=self.details, scale=self.scale,
            events=is_events(image), energy=spent, spurious=spurious, most_energy=self.most_energy,
            blocks=self.blocks, placement=attention.placement,
        )  # fmt: skip


def last_map(attention: Attention) -> Floats:
    """The map [h, w] of one image, of several layers the last."""
    h, w = attention.maps.shape[-2:]
    last: Floats = attention.maps.reshape(-1, h, w)[-1]
    return last


def scale_of_all(attentions: Iterable[Attention]) -> Normalize:
    """From the smallest to the largest score of the last maps of all images."""
    return scale_of(*(last_map(each) for each in attentions))


def most_energy(energy: SpuriousEnergy | None, images: int) -> float | None:
    """The most that a token takes in the first images, in mJ."""
    return None if energy is None else float(energy.maps[:images].max())


def blocks_of(energy: SpuriousEnergy | None, depth: int) -> str:
    """Whose energy was measured, in words, in a network with `depth` blocks."""
    if energy is None:
        return ""
    numbers = ", ".join(str(layer + 1) for layer in energy.layers)
    several = "s" if len(energy.layers) > 1 else ""
    return "all blocks" if len(energy.layers) == depth else f"block{several} {numbers}"


def energy_of(energy: SpuriousEnergy | None, place: int) -> tuple[Floats, Floats] | None:
    """mJ of every token of an image, and the part of it spent on noise, [h, w]."""
    return None if energy is None else (energy.maps[place], energy.spurious_maps[place])
