"""Energy models by name: which components a figure has. What each of them charges is in `memory.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikeattn.boundary.arguments import shown
from spikeattn.energy.custom_records import changed_name, changes
from spikeattn.errors import SpikeattnError, unknown

DEFAULT = "compute+memory"
_LEMAIRE = "Lemaire et al., ICONIP 2022 (arXiv 2210.13107)"


@dataclass(frozen=True)
class EnergyModel:
    """Which components a figure has, and how they are counted.

    Attributes:
        memory: False for arithmetic alone.
        fan_out: "exact", the weights that a spike really meets, or "nominal": C_out / groups x k^2 weights read and
            addressed per spike whatever the border and the stride, of which ceil(k / stride)^2 per axis are added.
        queue_words: messages that the queue before and behind a layer holds.
        off_chip: buffers larger than the largest memory on the chip lie in the one off it, every word of them.
        packed: a word of b bits costs b / access_bits of an access, not a whole one.
    """

    name: str
    source: str
    memory: bool = True
    fan_out: str = "exact"
    queue_words: int = 1000
    off_chip: bool = False
    packed: bool = False

    def __post_init__(self) -> None:
        if self.fan_out not in ("exact", "nominal"):
            raise unknown(f"fan_out of energy model {self.name!r}", str(self.fan_out), ("exact", "nominal"))
        if not isinstance(self.queue_words, int) or self.queue_words < 1:
            raise SpikeattnError(
                f"energy model {self.name!r}: queue_words is {self.queue_words!r}, at least 1 is needed"
            )


MODELS: dict[str, EnergyModel] = {
    model.name: model
    for model in (
        EnergyModel("compute", "arithmetic alone, as the spiking-transformer papers count", memory=False),
        EnergyModel("compute+memory", f"{_LEMAIRE}, with the weights that spikes really meet"),
        EnergyModel("lemaire-2022", f"{_LEMAIRE}, as SpikingJelly implements it: nominal fan-outs", fan_out="nominal"),
    )
}


def list_models() -> tuple[str, ...]:
    """Names of the energy models, `compute` first."""
    return tuple(MODELS)


def get_model(model: str | EnergyModel = DEFAULT, **settings: str | int | bool) -> EnergyModel:
    """The energy model of this name (or the model itself) with some settings changed, which its name then tells.

    Raises:
        SpikeattnError: unknown model, setting or value, with the closest valid names.
    """
    if isinstance(model, str):
        if model not in MODELS:
            raise unknown("energy model", model, MODELS)
        model = MODELS[model]
    if not isinstance(model, EnergyModel):
        raise SpikeattnError(f"model is {shown(model)}; give an energy model or the name of one: {', '.join(MODELS)}")
    valid = ("fan_out", "queue_words", "off_chip", "packed")
    changed = changes(model, settings, valid, "setting of energy model")
    if not changed:
        return model
    if not model.memory:
        raise SpikeattnError(
            f"energy model {model.name!r} has no memory, so {', '.join(changed)} cannot be set; take {DEFAULT!r}"
        )
    return replace(model, name=changed_name(model.name, changed), **changed)
