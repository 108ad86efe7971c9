"""The settings of a run, typed: all that its counts depend on besides the images themselves.

`provenance.provenance_of` writes them, `Ledger.settings` reads them. A record may lack any of them: an older version
wrote fewer. What is equal in two runs may be joined (`provenance.MIXABLE` says what may differ).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, get_type_hints

from spikeattn.boundary.marks import Keys
from spikeattn.storage.ledger_rows import Number, Size

Record = Mapping[str, Any]
Text = str | None

# What is read of records that otherwise hold whatever a model or a loader says of itself.
_CODE = Keys(arguments=Record, files=Mapping[str, str], sha256=Text)
_FUNCTION = Annotated[Record, Keys(file=str, name=str, sha256=str)]
_MODEL = Keys(
    name=Text, config=Record, checkpoint=Text, sha256=Text, weights=Text, code=Annotated[Record, _CODE] | None,
    functions=Mapping[str, _FUNCTION] | None, neuron_class=tuple[str, ...] | None,
)  # fmt: skip
_DATA = Keys(
    name=Text, spec=Text, split=Text, chosen=Number | None, batch_size=Size, limit=Size | None, sample=Size | None,
    seed=Number | None,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run.

    Attributes:
        model: what the model says of itself; a network of the user's own has its files under "code".
        weights_sha256: see `provenance.weights_hash`.
        data: what the data set and the choice of images say of themselves; None for a loader that says nothing.
        neurons: SpikingJelly's implementation of the neurons that ran.
        dtype: of the parameters, such as "float32".
        input: the shape of one image or of its frames.
        path: what ran, see `fast.prepare.choose`.
    """

    model: Annotated[Record, _MODEL] = field(default_factory=dict)
    weights_sha256: Text = None
    data: Annotated[Record, _DATA] | None = None
    device: Text = None
    device_name: Text = None
    neurons: Text = None
    threads: Size | None = None
    dtype: Text = None
    input: tuple[Number, ...] | None = None
    path: str = "plain"
    tf32: bool = False
    cudnn_benchmark: bool = False
    spikeattn: Text = None
    torch: Text = None
    spikingjelly: Text = None
    timm: Text = None

    @classmethod
    def of(cls, provenance: Record) -> Settings:
        """The settings in a provenance that has been checked; entries of other versions are left out."""
        names = {entry.name for entry in fields(cls)}
        record = {key: value for key, value in (provenance.get("settings") or {}).items() if key in names}
        return cls(**record)

    def record(self) -> dict[str, Any]:
        """All entries by name."""
        return asdict(self)

    @property
    def chosen(self) -> int | None:
        """How many images the run was to profile, where its data say so."""
        return (self.data or {}).get("chosen")


SETTINGS = Keys(**get_type_hints(Settings, include_extras=True))
