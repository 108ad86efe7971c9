"""One network of `spikeattn attend` at work: its maps of one image after another, and what becomes of them."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from spikeattn.attention.capture import call_model
from spikeattn.cli.attention_inputs import title_of
from spikeattn.cli.options import WrongCommandLine
from spikeattn.cli.output import note
from spikeattn.errors import SpikeattnError, unknown

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from spikeattn.attention.bootstrap_test import Attention
    from spikeattn.data import Dataset
    from spikeattn.data.dataset import Skipped
    from spikeattn.reporting.figures.attention_drawing import Seen
    from spikeattn.spurious import SpuriousEnergy

SCORES = {
    "Vhat_S": "Vhat_S spikes per neuron and step",
    "V_S": "V_S spikes per neuron and step",
    "gate": "share of V_S spikes let through",
    "drive": "k·v spikes per neuron and step",
    "ssa": "q·k per query, channel and step",
    "rate": "spikes per neuron and step",
    "cls": "attention weight of the class token",
    "received": "mean attention weight received",
    "rollout": "attention flow",
    "products": "matrix entry, mean over queries",
}


@dataclass(frozen=True)
class Settings:
    """How maps are made, tested and cut; the options of the same names."""

    null: str
    replicates: int
    statistic: str | None
    layer: int | str
    estimator: str
    ties: str
    method: str
    threshold: float | None
    seed: int
    memory: float

    def check(self) -> None:
        """Everything that can be wrong without a model.

        Raises:
            SpikeattnError: unknown names with the closest valid ones, options that do not go together.
        """
        from spikeattn.attention.nulls import NULLS
        from spikeattn.attention.regularize import METHODS
        from spikeattn.attention.significance import ESTIMATORS
        from spikeattn.reporting.tables.attention_tables import WITH_THRESHOLD

        named = (
            ("null", self.null, NULLS),
            ("estimator", self.estimator, ESTIMATORS),
            ("method", self.method, METHODS),
        )
        for name, given, valid in (*named, ("ties", self.ties, ("plain", "random"))):
            if given not in valid:
                raise unknown(name, given, valid)
        if not self.memory > 0:
            raise WrongCommandLine(f"--memory {self.memory:g}: give the GiB that a batch of replicates may occupy")
        if self.threshold is not None and self.method not in WITH_THRESHOLD:
            raise WrongCommandLine(f"--threshold: --method {self.method} has none; p, q and lfdr have one")
        if self.ties == "random" and self.estimator == "published":
            raise WrongCommandLine("--ties random needs --estimator plus-one or per-token")


@dataclass(eq=False)
class Network:
    """A model with its images, and what was found in them.

    Attributes:
        forward: calls the model on a batch.
        any_layer: whether the last block may stand for all, where these have different grids of tokens.
        attentions: one per image.
        grids: maps [layer, step or head, h, w] per image.
        warnings: (image, text).
        energy: what the images spent on noise, where a run was given.
    """

    model: nn.Module
    dataset: Dataset
    settings: Settings
    forward: Callable[[nn.Module, Tensor], Any] = call_model
    any_layer: bool = False
    ids: list[str] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    grids: list[np.ndarray] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    energy: SpuriousEnergy | None = None

    def __post_init__(self) -> None:
        from spikeattn.attention.map_sources import known_family
        from spikeattn.attention.maps import outlook

        self.title = title_of(self.model)
        kind, layer = self.settings.statistic, self.settings.layer
        family = known_family(self.model)
        depth = 0 if family is None else len(family.attentions)
        if family is not None and layer != "all" and not -depth <= layer < depth:
            raise SpikeattnError(f"--layer {layer}: the model has blocks 0 to {depth - 1}; -1 is the last, all is all")
        self._check_name(() if family is None else family.kinds)
        try:
            self.sight = outlook(self.model, self._first_image(), kind, layer, self.forward)
        except SpikeattnError as error:
            if not self.any_layer or layer == -1:
                raise
            self.settings, layer = replace(self.settings, layer=-1), -1
            self.sight = outlook(self.model, self._first_image(), kind, layer, self.forward)
            note(f"warning: the last block alone is attended to, unless --layer names another: {error}")
        self.kind, depth = self.sight.kind, self.sight.blocks
        if self.sight.layer is not None:  # one tensor, named by its path
            self.layers = self.all_layers = [self.sight.layer]
            return
        self.layers = list(range(depth)) if layer == "all" else [int(layer) % depth]
        self.all_layers = list(range(depth)) if self.sight.alike else self.layers

    def _check_name(self, kinds: Sequence[str]) -> None:
        """A statistic that is no map of the model's, no role and no path, by the name of the model."""
        from spikeattn.attention.applied_maps import KINDS
        from spikeattn.attention.roles import ROLES

        kind, name = self.settings.statistic, self.model.provenance["name"]
        bare = (kind or "").partition(":")[0].rpartition("_")[0] or kind
        paths = {path for path, _ in self.model.named_modules() if path}
        close = any(path == kind or path == (kind or "").partition(":")[0] for path in paths)
        product = any(bare and bare.startswith(f"{path}.") for path in paths)
        if kind is not None and kind not in (*kinds, *ROLES, *KINDS) and not close and not product:
            raise unknown(f"statistic of {name}", kind, (*(kinds or KINDS), *ROLES, *close_paths(kind, paths)))

    @property
    def score(self) -> str:
        """What a score of the map is."""
        if self.kind in SCORES:
            return SCORES[self.kind]
        return f"{self.kind}: spikes per neuron and step" if self.sight.steps else f"{self.kind}: mean over channels"

    def _first_image(self) -> Tensor:
        """The first image that can be read, as a batch on the model's device."""
        from spikeattn.data.dataset import Skipped

        device, skipped = next(self.model.parameters()).device, []
        for index in range(len(self.dataset)):
            sample = self.dataset[index]
            if not isinstance(sample, Skipped):
                return sample[0][None].to(device)
            skipped.append(sample)
        raise unreadable(skipped)

    @property
    def details(self) -> str:
        """How the maps shown in panels are made and tested, in a line."""
        s = self.settings
        block = f"{self.kind} of block {self.layers[-1] + 1} of {self.sight.blocks}"
        block = self.kind if self.sight.layer is not None else block
        if s.null == "exact":
            return f"{block}; null: exact"
        return f"{block}; null: {s.null}, B = {s.replicates}; {s.estimator} p"

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a grid."""
        if self.sight.steps:
            return [*(f"t = {t + 1}" for t in range(self.grids[0].shape[1] - 1)), "mean"]
        return [f"head {i + 1}" for i in range(self.grids[0].shape[1])] if self.sight.heads else ["mean head"]

    def look(self, index: int, image: Tensor) -> None:
        """Attend to one image and keep what is found.

        Raises:
            SpikeattnError: what `sa.attend` raises, with the name of the image.
        """
        from spikeattn.attention.bootstrap_test import attend

        s, name = self.settings, self.dataset.id(index)
        device = next(self.model.parameters()).device
        batch = image[None].to(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = attend(
                    self.model, batch, s.null, s.replicates, self.kind, estimator=s.estimator, layer=s.layer,
                    seed=s.seed, indices=[index], ties=s.ties, memory=s.memory, forward=self.forward,
                )  # fmt: skip
                if s.method == "q":
                    _ = found.q  # a q that its estimator refuses is an error now, not after all images
                grid = self._grid(batch)
            except SpikeattnError as error:
                raise SpikeattnError(f"{name}: {error}") from error
        self.warnings += [(name, str(each.message)) for each in caught if _ours(each)]
        self.ids.append(name)
        self.attentions.append(found)
        self.grids.append(grid)

    def seen(self, place: int, image: Tensor) -> Seen:
        """The image at `place` among those kept, for drawing; of several layers the last."""
        from spikeattn.reporting.figures.attention_drawing import Seen
        from spikeattn.reporting.figures.input_pictures import is_events, picture_of
        from spikeattn.reporting.tables.attention_tables import rule_of, significant

        s, found = self.settings, self.attentions[place]
        h, w = found.maps.shape[-2:]
        kept = found.regularized(s.method, s.threshold).reshape(-1, h, w)[-1]
        values = image.cpu().numpy()
        return Seen(
            self.ids[place], self.title, picture_of(values, self.dataset.preparation()), self.score,
            found.maps.reshape(-1, h, w)[-1], kept, significant(found.significance[-1], s.method, s.threshold),
            rule_of(s.method, s.threshold), self.details, is_events(values),
            None if self.energy is None else self.energy.maps[place],
            None if self.energy is None else self.energy.spurious_maps[place], found.placement,
        )  # fmt: skip

    def tokens(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Map [h, w] of every image, of several layers the last, and which of its tokens are significant."""
        from spikeattn.reporting.figures.attention_drawing import located
        from spikeattn.reporting.tables.attention_tables import significant

        for found in self.attentions:
            h, w = found.maps.shape[-2:]
            kept = significant(found.significance[-1], self.settings.method, self.settings.threshold)
            yield located(found.maps.reshape(-1, h, w)[-1], kept, found.placement, found.image_size)

    def grid_figure(self, place: int, seen: Seen, warning: str) -> Figure:
        """The maps over layers and time steps, or heads."""
        from spikeattn.reporting.figures.attention_grids import layer_grid
        from spikeattn.reporting.tables.attention_tables import significant

        s, grid = self.settings, self.grids[place]
        assessed = zip(self.layers, self.attentions[place].significance, strict=True)
        last = grid.shape[1] - 1
        outlined = {}
        if self.sight.steps or not self.sight.heads:
            rows_of = {layer: row for row, layer in enumerate(self.all_layers)}
            outlined = {(rows_of[layer], last): significant(found, s.method, s.threshold) for layer, found in assessed}
        rows = [f"block {layer + 1}" for layer in self.all_layers]
        return layer_grid(replace(seen, details=self._grid_details()), grid, rows, self.columns, outlined, warning)

    def evaluate(self, images: Tensor) -> Any:
        """Noise planted in the images; see `sa.evaluate_regularization`."""
        from spikeattn.attention.evaluate import evaluate_regularization

        s = self.settings
        options = {"statistic": self.kind, "estimator": s.estimator, "ties": s.ties, "memory": s.memory}
        options |= {"layer": self.layers[-1], "forward": self.forward} | (
            {} if s.threshold is None else {"threshold": s.threshold}
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            device = next(self.model.parameters()).device
            found = evaluate_regularization(self.model, images.to(device), s.null, s.replicates, seed=s.seed, **options)
        self.warnings += [("with planted noise", str(each.message)) for each in caught if _ours(each)]
        return found

    def say_warnings(self) -> None:
        """Each warning once, with the number of images and the first of them."""
        for text, names in self.grouped_warnings().items():
            where = names[0] if len(names) == 1 else f"{len(names)} images, first {names[0]}"
            note(f"warning: {where}: {text}")

    def grouped_warnings(self) -> dict[str, list[str]]:
        """Images by the text of their warning."""
        grouped: dict[str, list[str]] = {}
        for name, text in dict.fromkeys(self.warnings):
            grouped.setdefault(text, []).append(name)
        return grouped

    def _grid(self, batch: Tensor) -> np.ndarray:
        """Maps [layer, step or head, h, w] of one image; of steps their mean last."""
        import numpy as np

        from spikeattn.attention.maps import attention_map

        whole = "all" if self.sight.alike and self.sight.layer is None else self.settings.layer

        def maps(**more: Any) -> np.ndarray:
            found = (
                attention_map(self.model, batch, self.kind, layer=whole, forward=self.forward, **more)
                .values[0]
                .cpu()
                .numpy()
            )
            return found if whole == "all" else found[None]

        if self.sight.steps:
            return np.concatenate([maps(steps="each"), maps()[:, None]], axis=1)
        return maps(heads="each") if self.sight.heads else maps()[:, None]

    def _grid_details(self) -> str:
        over = "every head" if self.sight.heads else "the mean"
        over = "every time step, and their mean" if self.sight.steps else over
        over = f"every layer and {over}" if self.sight.alike and self.sight.layer is None else over
        over = "all layers up to each" if self.kind == "rollout" else over
        return f"{self.kind} of {over}"


def unreadable(skipped: Sequence[Skipped]) -> SpikeattnError:
    """Error where no image is left."""
    reasons = "; ".join(f"{one.id}: {one.reason}" for one in skipped[:3])
    return SpikeattnError(f"no image could be read, {len(skipped)} were skipped. {reasons}")


def close_paths(kind: str, paths: Collection[str]) -> list[str]:
    """The paths of modules that a name is most like."""
    return difflib.get_close_matches(kind, sorted(paths), n=3, cutoff=0.5)


def warned(networks: Sequence[Network]) -> str:
    """The line under every figure where a network has random weights."""
    names = [network.model.provenance["name"] for network in networks if not network.model.provenance["trained"]]
    return (
        f"UNTRAINED: the weights of {' and '.join(names)} are random; this picture describes nothing" if names else ""
    )


def record(network: Network) -> Mapping[str, Any]:
    """What a rerun needs to know of a network; JSON types."""
    import dataclasses

    from spikeattn.reporting.tables.attention_tables import rule_of

    settings = network.attentions[0].provenance
    return {
        "title": network.title,
        "details": network.details,
        "rule": rule_of(network.settings.method, network.settings.threshold),
        "untrained": not network.model.provenance["trained"],
        "model": network.model.provenance,
        "statistic": network.kind,
        "layers": network.layers,
        "settings": dataclasses.asdict(network.settings),
        "versions": {key: settings[key] for key in ("spikeattn", "torch") if key in settings},
        "data": network.dataset.provenance(),
        "warnings": network.grouped_warnings(),
    }


def _ours(warning: Any) -> bool:
    from spikeattn.attention.significance import AttentionWarning

    return issubclass(warning.category, AttentionWarning)
