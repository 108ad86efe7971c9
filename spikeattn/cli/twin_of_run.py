"""`--measure-twin`: the twin of a run's own network, which is opened again, run once and counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.machine import choose_device
from spikeattn.cli.output import note
from spikeattn.cli.stored_networks import Instead, open_stored
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.energy.dense_twin import DenseTwin
    from spikeattn.storage.ledger import Ledger

_INSTEAD = Instead(
    "leave out --measure-twin for the twin by hand",
    "call sa.compare(profile, sa.measured_twin(model, images, profile.ledger)) there",
)


def twin_of_run(
    ledger: Ledger, checkpoint: Path | None = None, data: str | None = None, model: str | None = None
) -> DenseTwin:
    """The measured twin of a run's network.

    Args:
        checkpoint, data, model: to take in place of the run's own.

    Raises:
        SpikeattnError: the network or its images cannot be opened.
    """
    from spikeattn.data.loaders import batches_of
    from spikeattn.energy.measured_twins import measured_twin

    opened = open_stored(ledger, checkpoint, data, model, choose_device("auto"), _INSTEAD)
    if opened.missing:
        raise SpikeattnError(
            f"--measure-twin: the {next(iter(opened.missing))} of the run cannot be opened: {opened.why}. `spikeattn "
            "compare RUN --measure-twin` takes --model, --checkpoint and --data where they lie elsewhere by now; "
            f"{_INSTEAD.without}"
        )
    images = next((batch.images for batch, _ in batches_of(opened.loader) if len(batch.images)), None)
    if images is None:
        raise SpikeattnError(f"--measure-twin: no image of the run can be read; {_INSTEAD.without}")
    note("measuring the twin ...")
    return measured_twin(opened.net, images, ledger, opened.options.get("forward"), opened.options.get("neurons"))
