"""The result of a profile run: rates, accuracy, operations and energy, all computed from its two files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary import arguments, display
from spikeattn.boundary.notes import Note
from spikeattn.energy import EnergyTable, energy, operations
from spikeattn.energy.by_label import energy_by_label
from spikeattn.energy.by_model import ModelTable, by_model
from spikeattn.energy.components import ComponentTable, components
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.models.catalogue import ALL
from spikeattn.energy.models.record import NamedModel
from spikeattn.energy.models.registry import DEFAULT as DEFAULT_MODEL
from spikeattn.energy.models.registry import EnergyModel
from spikeattn.energy.profile_argument import counted, labels_to_cluster, once_named
from spikeattn.energy.training_energy import TrainingTable, training_energy
from spikeattn.energy.training_rules import DEFAULT as DEFAULT_TRAINING
from spikeattn.energy.training_rules import Optimizer, TrainingConvention
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.runs.firing_rates import RateTable, mean_rates, rates
from spikeattn.runs.five_numbers import as_text, numbers_of
from spikeattn.stats.accuracy import accuracy_over_time, why_no_accuracy
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES
from spikeattn.storage.counts import FILE, Counts
from spikeattn.storage.folder import LEDGER, interrupted
from spikeattn.storage.ledger import Ledger
from spikeattn.structure.network_structure import Structure, named_ledger

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class EmptyShard(SpikeattnError):
    """A shard none of whose images could be read: it is finished and merges with the others, but has no result.

    Attributes:
        shard: such as "3/16".
        skipped: name and reason of every image.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.shard: str = ledger.provenance["shard"]
        self.skipped: list[dict[str, str]] = ledger.provenance.get("skipped", [])
        named = "; ".join(f"{image['id']}: {image['reason']}" for image in self.skipped[:3])
        super().__init__(
            f"{path}: none of the {len(self.skipped)} images of shard {self.shard} could be read, so it has no result "
            f"of its own; it merges with the other shards, and its images count as skipped. {named}"
        )


class Profile:
    """Counts of one run and the structure they belong to; every table below is a pure function of the two.

    Attributes:
        ledger: what was counted, warnings and provenance (`model.json`).
        counts: one row per image (`counts.parquet`).
        path: the run's folder, None for a run kept in memory.
    """

    def __init__(self, ledger: Ledger, counts: Counts, path: Path | None = None) -> None:
        self.ledger, self.counts, self.path = ledger, counts, path

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read the folder of a finished run.

        Raises:
            SpikeattnError: not the folder of a finished run, damaged files, or files of different runs.
            EmptyShard: the folder of a shard without a single readable image.
        """
        path = arguments.path("path", path)
        if not path.is_dir():
            raise SpikeattnError(f"{path}: no such folder; expected the folder that `spikeattn profile --out` wrote")
        if interrupted(path) and not (path / LEDGER).is_file():
            raise SpikeattnError(f"{path}: an interrupted run without {FILE}; finish it with --resume")
        if not (path / LEDGER).is_file():
            raise SpikeattnError(
                f"{path}: no run there (it has no {LEDGER}); expected the folder that `spikeattn profile --out` wrote"
            )
        ledger = Ledger.load(path / LEDGER)
        if not (path / FILE).is_file() and interrupted(path) and "shard" in ledger.provenance:
            raise EmptyShard(path, ledger)
        if not (path / FILE).is_file():
            raise SpikeattnError(f"{path}: an interrupted run without {FILE}; finish it with --resume")
        return cls(ledger, Counts.load(path / FILE, ledger), path)

    def save(self, path: str | Path) -> Path:
        """Write `model.json` and `counts.parquet` into a folder; each appears whole or not at all."""
        path = arguments.path("path", path)
        if (path / FILE).exists():
            raise SpikeattnError(f"{path}: holds a run already; give another folder, or delete it first")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.ledger.save(path / LEDGER)
            self.counts.save(path / FILE)
        except OSError as error:
            raise SpikeattnError(
                f"{path}: cannot write the run there ({error.strerror}); give another folder"
            ) from error
        return path

    def __repr__(self) -> str:
        name = self.ledger.model.get("name", "model")
        untrained = ", UNTRAINED" if self.untrained else ""
        size = f"{self.n_images} images, T={self.time_steps}, {len(self.ledger.tensors)} tensors"
        return f"<Profile of {name}{untrained}: {size}>\n{self._text}"

    def _repr_html_(self) -> str:
        """In a notebook: the first screen of the page, with its firing rates and energies to unfold."""
        return display.view("profile_view").html(self, self._numbers(self._priced), self._priced)

    def plot(self, ax: Axes | None = None, *, what: Literal["energy", "blocks", "rates"] = "energy") -> Axes:
        """Draw the profile: "energy" per image and part with intervals, per block ("blocks"), or firing "rates".

        Args:
            ax: axes to draw into; without, those of a new figure of pyplot.

        Raises:
            SpikeattnError: another name of a plot.
        """
        return display.view("profile_view").plot(self, ax, what)

    def _numbers(self, table: EnergyTable) -> dict[str, Any]:
        found = numbers_of(self.ledger, self.over_time(), table, self.n_images)
        return found | {"no_accuracy": self.no_accuracy, "warnings": list(self.warnings)}

    @cached_property
    def _priced(self) -> EnergyTable:
        """`energy()` as it is shown: to look again costs nothing."""
        return self.energy()

    @cached_property
    def _text(self) -> str:
        """The five numbers in words."""
        try:
            return as_text(self._numbers(self._priced), self._priced, self.warnings)
        except SpikeattnError as error:  # a representation is printed where something went wrong, and may not do so too
            return f"no energy: {error}"

    @property
    def n_images(self) -> int:
        """Images counted."""
        return self.counts.n_images

    @property
    def time_steps(self) -> int:
        """T."""
        return self.ledger.time_steps

    @property
    def untrained(self) -> bool:
        """Whether the model says that its weights are random."""
        return self.ledger.model.get("trained") is False

    @property
    def warnings(self) -> tuple[Note, ...]:
        """What a reader must know, one sentence each, with a code by which programs tell them apart."""
        return tuple(map(Note.read, self.ledger.warnings))

    @property
    def provenance(self) -> dict[str, Any]:
        """Model, data, settings and versions of the run."""
        return dict(self.ledger.provenance)

    @property
    def no_accuracy(self) -> str | None:
        """Why the accuracy of this run is not known, as of a detector's; None where it is."""
        return why_no_accuracy(self.counts.rows, self.ledger.provenance)

    @property
    def structure(self) -> Structure:
        """Part, block and role of every synapse, product and tensor, token grid and heads."""
        return Structure.of_ledger(self.ledger)

    def named(self, names: str | Path | Mapping[str, Any]) -> Profile:
        """The same counts under the parts, blocks and roles of a names file (`structure.write_names`), or a mapping.

        In memory; `save` keeps it.

        Raises:
            SpikeattnError: a key that fits nothing, with the closest names; a part that does not exist.
        """
        ledger = named_ledger(self.ledger, names)
        return Profile(ledger, self.counts.beside(ledger))

    def rates(
        self,
        replicates: int = REPLICATES,
        seed: int = 0,
        confidence: float = CONFIDENCE,
        by: Literal["label"] | None = None,
        cluster: Literal["label"] | None = None,
    ) -> RateTable:
        """Firing rate of every tensor at every time step, with an interval over images; see `runs.firing_rates`.

        Args:
            replicates, seed, confidence: of the bootstrap over images.
            by: "label" for one such table per label, each from its own images alone.
            cluster: "label" to draw classes, each with its images, in place of images; see `stats.classes`.

        Raises:
            SpikeattnError: by and cluster together, or images without labels or of one class alone.
        """
        labels, clusters = None if by is None else self._labels(by), self._clusters(by, cluster)
        return rates(self.ledger, self.counts, replicates, seed, confidence, labels, clusters)

    def operations(self, first_conv: str = "once", per_image: bool = False) -> pd.DataFrame:
        """Operations that took place, one row per synapse and product; see `spikeattn.energy.operations`.

        With per_image=True one row per image and synapse or product.
        """
        return operations(self, first_conv, arguments.switch("per_image", per_image))

    @overload
    def energy(
        self,
        costs: str | Path | CostTable = ...,
        convention: str | Convention = ...,
        replicates: int = ...,
        seed: int = ...,
        confidence: float = ...,
        by: None = None,
        cluster: Literal["label"] | None = None,
    ) -> EnergyTable: ...

    @overload
    def energy(
        self,
        costs: str | Path | CostTable = ...,
        convention: str | Convention = ...,
        replicates: int = ...,
        seed: int = ...,
        confidence: float = ...,
        *,
        by: Literal["label"],
    ) -> pd.DataFrame: ...

    def energy(
        self,
        costs: str | Path | CostTable = DEFAULT_COSTS,
        convention: str | Convention = DEFAULT_CONVENTION,
        replicates: int = REPLICATES,
        seed: int = 0,
        confidence: float = CONFIDENCE,
        by: Literal["label"] | None = None,
        cluster: Literal["label"] | None = None,
    ) -> EnergyTable | pd.DataFrame:
        """Energy per image and part in mJ, with intervals; see `spikeattn.energy.energy`.

        With by="label" a plain table with the rows of every label (-1 is unknown), each from its own images alone, and
        the columns label and n_images in front. With cluster="label" classes are drawn, each with its images, in place
        of images.
        """
        self._clusters(by, cluster)
        if by is None:
            return energy(self, costs, convention, replicates, seed, confidence, cluster)
        labels, prices, rules = self._labels(by), get_costs(costs), get_convention(convention)
        return energy_by_label(counted(self), labels, prices, rules, replicates, seed, confidence)

    @once_named("model", "energy_model")
    def components(
        self,
        costs: str | Path | CostTable = DEFAULT_COSTS,
        energy_model: str | EnergyModel = DEFAULT_MODEL,
        first_conv: str = "once",
        replicates: int = REPLICATES,
        seed: int = 0,
        confidence: float = CONFIDENCE,
        cluster: Literal["label"] | None = None,
    ) -> ComponentTable:
        """Arithmetic, neurons, addressing and memory apart, in mJ; see `spikeattn.energy.components`."""
        return components(self, costs, energy_model, first_conv, replicates, seed, confidence, cluster)

    def energy_models(
        self,
        models: str | NamedModel | Iterable[str | NamedModel] = ALL,
        costs: str | Path | CostTable = DEFAULT_COSTS,
        first_conv: str = "once",
        replicates: int = REPLICATES,
        seed: int = 0,
        confidence: float = CONFIDENCE,
        cluster: Literal["label"] | None = None,
    ) -> ModelTable:
        """Energy under several energy models side by side, a row each and no sum; see `spikeattn.energy.by_model`."""
        return by_model(self, models, costs, first_conv, replicates, seed, confidence, cluster)

    def training_energy(
        self,
        optimizer: str | Optimizer,
        batch_size: int,
        costs: str | Path | CostTable = DEFAULT_COSTS,
        convention: str | TrainingConvention = DEFAULT_TRAINING,
        first_conv: str = "once",
        replicates: int = REPLICATES,
        seed: int = 0,
        confidence: float = CONFIDENCE,
        cluster: Literal["label"] | None = None,
    ) -> TrainingTable:
        """Energy of one training step per image, phase by phase; see `spikeattn.energy.training_energy`."""
        return training_energy(
            self, optimizer, batch_size, costs, convention, first_conv, replicates, seed, confidence, cluster
        )

    def over_time(self) -> pd.DataFrame:
        """Accuracy and mean firing rate if the run had stopped after t steps, one row per t.

        Columns: t, accuracy (with Wilson limits accuracy_low and accuracy_high; NaN without labels or without logits
        per step), n_labelled, mean_rate (the mean firing rate: non-zero outputs of all neurons / (neurons x steps
        1..t)).
        """
        per_step = mean_rates(self.ledger, self.counts)
        means = [float(per_step[:t].mean()) for t in range(1, self.time_steps + 1)]
        return accuracy_over_time(self.counts.rows, self.time_steps).assign(mean_rate=means)

    def summary(
        self, costs: str | Path | CostTable = DEFAULT_COSTS, convention: str | Convention = DEFAULT_CONVENTION
    ) -> dict[str, Any]:
        """The five numbers of a results table, with intervals, units and what they rest on; JSON types only."""
        return self._numbers(self.energy(costs, convention))

    def _clusters(self, by: str | None, cluster: str | None) -> NDArray[np.integer] | None:
        if by is not None and cluster is not None:
            raise SpikeattnError("by='label' is a table per class, of which cluster='label' has none to draw; give one")
        return labels_to_cluster(self, cluster)

    def _labels(self, by: str) -> np.ndarray:
        if by != "label":
            raise unknown("grouping", str(by), ["label"])
        labels = self.counts.rows["label"].to_numpy()
        if (labels < 0).all():
            raise SpikeattnError("by='label' needs labels; none of the images of this run has one")
        return labels
