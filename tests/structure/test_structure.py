"""Structure from the data's way: odd networks with their truth, names that say nothing, names files, the ledger."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from torch import nn

import spikeattn as sa
from spikeattn.models.spike_driven import SpikeDrivenTransformer
from spikeattn.storage.ledger import Ledger
from spikeattn.structure import reading
from spikeattn.structure.entry import PARTS
from spikeattn.structure.infer import infer
from tests.structure import odd_networks as odd


def entries(structure: sa.structure.Structure) -> dict[str, tuple[str, int | None, str | None]]:
    return {e.name: (e.part, e.block, e.role) for e in structure.entries["synapses"]}


def small() -> SpikeDrivenTransformer:
    return SpikeDrivenTransformer(
        img_size=32, num_classes=10, embed_dim=32, depth=2, num_heads=4, time_steps=2, pooling_stat="0011"
    )


@pytest.mark.parametrize("name", odd.NETWORKS)
def test_odd_networks(name: str) -> None:
    model = odd.NETWORKS[name]()
    got = entries(sa.structure(model, odd.images(name)))
    assert {key: got.get(key) for key in model.truth} == model.truth


@pytest.mark.parametrize("name", odd.NETWORKS)
def test_names_do_not_matter(name: str) -> None:
    """The same with every module renamed to nonsense; only k against v of masks may then go by order."""
    model = odd.NETWORKS[name]()
    neurons = reading.neurons_of(model, None)
    graph = reading.graph_of(model, odd.images(name), reading._call, neurons, values=True)
    sites = {node.number: node.site for node in graph.nodes}
    for node in graph.nodes:
        node.path = ".".join(hashlib.md5(part.encode()).hexdigest()[:6] for part in node.path.split("."))
    made = infer(graph)
    got = {sites[n]: (r.part, r.block, r.role) for n, r in made.readings.items()}
    assert {key: got.get(key) for key in model.truth} == model.truth


def test_grid_heads_and_class_tokens() -> None:
    found = sa.structure(odd.ClassToken(), odd.images(""))
    assert (found.grid, found.heads, found.class_tokens) == ((4, 4), 4, 1)
    stages = sa.structure(odd.TwoStages(), odd.images(""))
    assert stages.grid == {0: (8, 8), 1: (4, 4)} and stages.heads == 1


def test_channels_of_a_fused_layer() -> None:
    found = sa.structure(odd.of(odd.Fused), odd.images(""))
    fused = next(e for e in found.entries["synapses"] if e.role == "qkv")
    assert fused.channels == {"q": ((0, 16),), "k": ((16, 32),), "v": ((32, 48),)}
    row = found.table().set_index("synapse").loc[fused.name]
    assert row["channels"] == "q 0-15, k 16-31, v 32-47"


def test_what_profile_refuses() -> None:
    """Images that influence each other, and values that are not finite."""

    class Mixing(odd.Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x - x.mean(0, keepdim=True)) * float("nan")

    model = Mixing()
    got = entries(sa.structure(model, torch.full((3, 3, 16, 16), float("nan"))))
    assert {key: got.get(key) for key in model.truth} == model.truth


def test_a_model_that_looks_at_values() -> None:
    class Looking(odd.Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > -1e9 else x + 1)

    model = Looking()
    got = entries(sa.structure(model, odd.images("")))
    assert {key: got.get(key) for key in model.truth} == model.truth


def test_the_model_is_as_it_was() -> None:
    model = odd.Net()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = [set(vars(module)) for module in model.modules()]
    sa.structure(model, odd.images(""))
    assert model.training and attributes == [set(vars(module)) for module in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(x.is_meta for module in model.modules() for x in getattr(module, "_memories", {}).values()
                   if isinstance(x, torch.Tensor))  # fmt: skip
    model.eval()(odd.images(""))


# -------------------------------------------------------------------- the family
@pytest.mark.parametrize("dvs", [False, True])
def test_spike_driven_transformer_has_its_paper_names(dvs: bool) -> None:
    """Recognised by its structure: a copy that says nothing of its names gets the labels that paper_names gives."""
    model = SpikeDrivenTransformer(
        img_size=32, num_classes=10, embed_dim=32, depth=2, num_heads=4, time_steps=2, pooling_stat="1010", dvs=dvs
    )

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_embed, self.block, self.head_lif, self.head = (
                model.patch_embed, model.block, model.head_lif, model.head
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return SpikeDrivenTransformer.forward(model, x)

    x = torch.rand(2, 3, 32, 32)
    found = sa.structure(Theirs(), x)
    assert (found.family, found.grid) == ("Spike-driven Transformer", (8, 8))
    assert found.heads == (4 if dvs else None)  # they matter to what Erode pools alone
    theirs, ours = sa.profile(Theirs(), [x]), sa.profile(model, [x])
    for kind in ("synapses", "products", "tensors"):
        labels = [
            [(e.part, e.block, e.role, getattr(e, "hook", None)) for e in getattr(p.ledger, kind)]
            for p in (theirs, ours)
        ]
        assert labels[0] == labels[1]
        assert {e.known for e in getattr(theirs.ledger, kind)} - {"unknown"} == {"family"}  # the input is unknown
    for convention in ("sdt-paper", "sdt-printed", "exact"):
        assert theirs.energy(convention=convention).total.value == ours.energy(convention=convention).total.value


def test_masks_of_another_network_are_no_family() -> None:
    assert sa.structure(odd.of(odd.Masks), odd.images("")).family is None


def test_plain_networks_get_no_transformer_label() -> None:
    for name in ("squeeze", "perceptron"):
        found = sa.structure(odd.NETWORKS[name](), odd.images(name))
        assert set(found.table()["part"]) <= {"conv", "downsampling", "head", "gate", "other"}
        assert found.blocks == 0


# -------------------------------------------------------------------- names files
def test_names_file_there_and_back(tmp_path) -> None:
    model = odd.Net()
    found = sa.structure(model, odd.images(""))
    path = found.write_names(tmp_path / "names.toml")
    again = sa.structure(model, odd.images(""), names=path)
    assert entries(again) == entries(found)
    assert set(again.table()["known"]) == {"names file"}
    with pytest.raises(sa.SpikeattnError, match="exists already"):
        found.write_names(path)
    found.write_names(path, force=True)


def test_names_override_entry_by_entry() -> None:
    found = sa.structure(odd.Net(), odd.images(""), names={"mixers.0.alpha": {"part": "gate", "block": 3}})
    by_name = {e.name: e for e in found.entries["synapses"]}
    assert (by_name["mixers.0.alpha"].part, by_name["mixers.0.alpha"].block) == ("gate", 3)
    assert by_name["mixers.0.alpha"].known == "names file" and by_name["mixers.0.beta"].known == "dataflow"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"mixers.0.alfa": "QKV"}, "did you mean 'mixers.0.alpha'"),
        ({"mixers.0.alpha": "QVK"}, "did you mean 'QKV'"),
        ({"mixers.0.alpha": {"blok": 1}}, "did you mean 'block'"),
        ({"mixers.0.alpha": {"block": -1}}, "whole number"),
        ({"mixers.0.alpha": 3}, "give"),
        ({"synapses": {}, "layers": {}}, "layers"),
        ("no such file.toml", "no such names file"),
        (3, "names is 3"),
    ],
)
def test_names_that_fit_nothing(names, says: str) -> None:
    for call in (
        lambda: sa.structure(odd.Net(), odd.images(""), names=names),
        lambda: sa.profile(odd.Net(), [odd.images("")], names=names),
    ):
        with pytest.raises(sa.SpikeattnError, match=says):
            call()


# -------------------------------------------------------------------- the ledger
def test_profile_has_the_structure(tmp_path) -> None:
    model = odd.Net()
    profile = sa.profile(model, [torch.rand(2, 3, 16, 16)], tmp_path / "run")
    found = sa.structure(model, odd.images(""))
    assert entries(profile.structure) == {k: v for k, v in entries(found).items()}
    assert profile.structure.grid == (4, 4) and profile.structure.heads == 4
    parts = profile.operations().set_index("synapse")["part"]
    assert parts["mixers.1.gamma"] == "QKV" and parts["head"] == "head"
    assert set(profile.ledger.synapse("mixers.0.alpha").known) == set("dataflow")
    neuron = profile.ledger.tensor("mixers.0.n1")
    assert (neuron.part, neuron.block, neuron.role) == ("attention", 0, "k")
    assert set(profile.structure.table()["part"]) <= {*PARTS}


def test_names_file_of_structure_goes_to_profile(tmp_path) -> None:
    """A file that `sa.structure` wrote names tensors that a run does not count; it fits all the same."""
    model = odd.of(odd.Masks)
    path = sa.structure(model, odd.images("")).write_names(tmp_path / "names.toml")
    text = path.read_text().replace('"head" = { part = "head" }', '"head" = { part = "other" }')
    path.write_text(text)
    profile = sa.profile(model, [torch.rand(2, 3, 16, 16)], names=path)
    head = profile.ledger.synapse("head")
    assert head.part is None and head.known == "names file"


def test_ledgers_of_earlier_versions_read(tmp_path) -> None:
    profile = sa.profile(small(), [torch.rand(2, 3, 32, 32)])
    record = json.loads(profile.ledger.to_json())
    del record["structure"]
    for kind in ("synapses", "products", "tensors"):
        for entry in record[kind]:
            del entry["known"]
    old = Ledger.from_dict(record)
    assert old.hash() == profile.ledger.hash()
    found = sa.structure.Structure.of_ledger(old)
    assert found.grid is None and set(found.table()["known"]) == {"family"}


def test_neurons_of_ones_own() -> None:
    class Step(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x >= 0.5).to(x.dtype)

    class Own(odd.Net):
        def __init__(self) -> None:
            super().__init__()
            for module in list(self.modules()):
                for name, child in list(module.named_children()):
                    if type(child).__name__ == "LIFNode":
                        setattr(module, name, Step())

    model = Own()
    for given in (None, "Step", Step, [Step]):  # functional spikes do not cut the graph
        got = entries(sa.structure(model, odd.images(""), neuron_class=given))
        assert {key: got.get(key) for key in model.truth} == model.truth
    with pytest.raises(sa.SpikeattnError, match="did you mean 'Step'"):
        sa.structure(model, odd.images(""), neuron_class="Stpe")


def test_errors_name_what_was_given() -> None:
    with pytest.raises(sa.SpikeattnError, match="images are"):
        sa.structure(odd.Net(), torch.zeros(0, 3, 16, 16))
    with pytest.raises(sa.SpikeattnError, match="fails on"):
        sa.structure(odd.Net(), torch.rand(1, 4, 16, 16))
    with pytest.raises(sa.SpikeattnError, match="nothing in Net reads"):
        sa.structure(odd.Net(), odd.images(""), forward=lambda model, x: None)
    with pytest.raises(sa.SpikeattnError, match="Did|did you mean|valid are"):
        sa.structure(odd.Net(), odd.images("")).table("synapse")
