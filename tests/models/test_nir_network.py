"""Networks of NIR files: their spikes beside other frameworks', their counts beside brute force, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn import SpikeattnError
from spikeattn.tracing import neurons as nodes
from tests.counting import brute_force
from tests.counting.brute_force import amounts

nir = pytest.importorskip("nir", reason='reads NIR files: pip install "spikeattn[nir]"')

FLOAT = np.float32


@pytest.fixture(autouse=True)
def emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brute force resets as the table of neurons says."""
    monkeypatch.setattr(brute_force, "reset_net", nodes.reset)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """k/16, whose sums are exact in any order."""
    return (np.random.default_rng(seed).integers(-12, 17, shape) / 16).astype(FLOAT)


def full(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value, dtype=FLOAT)


def IF(*shape: int) -> Any:
    return nir.IF(r=full(1, *shape), v_threshold=full(1, *shape))


def LIF(*shape: int, r: float = 2) -> Any:
    """Of dt = 1 where r = tau: half of the potential is left after a step."""
    return nir.LIF(tau=full(2, *shape), r=full(r, *shape), v_leak=full(0, *shape), v_threshold=full(1, *shape))


def CubaLIF(*shape: int) -> Any:
    two = {name: full(2, *shape) for name in ("tau_syn", "tau_mem", "r")}
    return nir.CubaLIF(**two, v_leak=full(0, *shape), v_threshold=full(1, *shape), w_in=full(2, *shape))


def conv(outputs: int, inputs: int, side: int, seed: int = 0, bias: float = 0, **changed: Any) -> Any:
    options = {"stride": 1, "padding": (1, 1), "dilation": 1, "groups": 1} | changed
    shape = (outputs, inputs // options["groups"], 3, 3)
    return nir.Conv2d((side, side), weights(*shape, seed=seed), bias=full(bias, outputs), **options)


def pool(kind: str) -> Any:
    two = np.array([2, 2])
    return getattr(nir, f"{kind}Pool2d")(kernel_size=two, stride=two, padding=np.array([0, 0]))


def chain(
    path: Path, first: Sequence[int], last: Sequence[int], *layers: Any, edges: Sequence = (), **more: Any
) -> str:
    """A file with layers "a", "b", ... one behind the other, further nodes by name and further edges."""
    named = dict(zip("abcdefghijklmnop", layers, strict=False))
    ends = nir.Input({"input": np.array(first)}), nir.Output({"output": np.array(last)})
    line = {"input": ends[0], **named, "output": ends[1]}
    edges = [*zip(line, list(line)[1:], strict=False), *edges]
    nir.write(path, nir.NIRGraph(line | more, edges, **({"type_check": False} if _checks() else {})))
    return str(path)


def _checks() -> bool:
    import inspect

    return "type_check" in inspect.signature(nir.NIRGraph).parameters


def cnn(path: Path, kind: str = "Sum") -> str:
    head = nir.Flatten({"input": np.array([6, 4, 4])}, 0, -1), nir.Affine(weights(5, 96, seed=3), full(0.25, 5)), IF(5)
    neurons = LIF(4, 8, 8), pool(kind), conv(6, 4, 4, seed=2, bias=0.5), CubaLIF(6, 4, 4)
    return chain(path, (2, 8, 8), (5,), conv(4, 2, 8, seed=1), *neurons, *head)


def events(*shape: int, seed: int = 0) -> Tensor:
    """Whole numbers of events, most of them none."""
    return torch.poisson(torch.full(shape, 0.4), generator=torch.Generator().manual_seed(seed))


def exact_against_brute_force(
    model: nn.Module, images: Tensor, time_steps: int, repeated: int = 0, unit: Callable[[Tensor], float] | None = None
) -> sa.Profile:
    """Profile with nothing but the loader, and the same batch twice.

    Args:
        repeated: MACs of a layer on a still image beyond the first step, which are charged once.
        unit: what the spikes are multiples of, by the weights that they meet.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile = sa.profile(model, [images[:2], images[2:]])
    found = amounts(profile)
    assert profile.time_steps == time_steps and not profile.ledger.uncounted
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in before.items())
    expected = brute_force.by_brute_force(model, images, None, nodes.is_spiking_neuron, unit or (lambda weight: 1.0))
    assert found["sop"] == [sops for sops, _ in expected] and min(found["sop"]) > 0
    assert found["mac"] == [macs - repeated for _, macs in expected]
    twice = amounts(sa.profile(model, [images, images]))
    assert twice["sop"] == found["sop"] * 2 and twice["mac"] == found["mac"] * 2
    return profile


# ------------------------------------------------------------------------------------------------------------- counts
def test_cnn_on_events(tmp_path: Path) -> None:
    """Sums of spikes stay whole numbers: a layer behind them adds once for each spike that came in."""
    profile = exact_against_brute_force(sa.load_model(cnn(tmp_path / "net.nir")), events(3, 7, 2, 8, 8), 7)
    assert {s.name for s in profile.ledger.synapses} == {"nodes.a", "nodes.d", "nodes.g"}
    assert not any(amounts(profile)["mac"])


@pytest.mark.parametrize("make", [cnn, lambda path: recurrent(path)])
def test_every_pass_begins_from_rest(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """Also in batches of another size, and where nobody resets."""
    model: Any = sa.load_model(make(tmp_path / "net.nir"))
    x = events(3, 6, *model.input_shape)
    first = model(x)
    assert torch.equal(model(x), first) and first.any()
    assert torch.equal(model(x[1:2]), first[:, 1:2])


def test_averages_pass_on_parts_of_spikes(tmp_path: Path) -> None:
    model = sa.load_model(cnn(tmp_path / "net.nir", "Avg"))
    behind: Any = model.get_submodule("nodes.d")
    unit = lambda weight: 0.25 if weight is behind.weight else 1.0  # noqa: E731
    exact_against_brute_force(model, events(3, 7, 2, 8, 8), 7, unit=unit)


def test_still_images_are_shown_time_steps_times(tmp_path: Path) -> None:
    model = sa.load_model(cnn(tmp_path / "net.nir"), time_steps=4)
    images = brute_force.pictures(3, 2, 8, 8)
    exact_against_brute_force(model, images, 4, repeated=3 * 64 * 4 * 2 * 9)
    with pytest.raises(SpikeattnError, match=r"net.nir runs over time, .* no time axis: give frames \[B, T, 2, 8, 8\]"):
        sa.load_model(cnn(tmp_path / "net.nir"))(images)


def recurrent(path: Path, bias: float = 0.0) -> str:
    """Spikes of "b" come back through "w"; a branch skips the second layer of neurons."""
    back = nir.Affine(weights(8, 8, seed=5), full(bias, 8)) if bias else nir.Linear(weights(8, 8, seed=5))
    layers = nir.Linear(weights(8, 6)), CubaLIF(8), nir.Linear(weights(8, 8, seed=2)), IF(8)
    last = nir.Linear(weights(3, 8, seed=3)), LIF(3)
    return chain(path, (6,), (3,), *layers, *last, edges=[("b", "w"), ("w", "b"), ("b", "e")], w=back)


def ring(path: Path) -> str:
    """Spikes of the second neurons come back to the first: what leads forward does not wait for a step."""
    layers = (
        nir.Linear(weights(8, 6)),
        IF(8),
        nir.Linear(weights(8, 8, seed=2)),
        IF(8),
        nir.Linear(weights(3, 8, seed=3)),
    )
    return chain(path, (6,), (3,), *layers, edges=[("d", "w"), ("w", "b")], w=nir.Linear(weights(8, 8, seed=5)))


def test_recurrent_graph(tmp_path: Path) -> None:
    model = sa.load_model(recurrent(tmp_path / "net.nir"))
    profile = exact_against_brute_force(model, events(3, 6, 6), 6)
    received, given = (profile.counts.column("nnz", name) for name in ("nodes.w:in", "nodes.b"))
    assert np.array_equal(received[:, 1:], given[:, :-1]) and not received[:, 0].any() and received.any()
    exact_against_brute_force(sa.load_model(ring(tmp_path / "ring.nir")), events(3, 6, 6), 6)


def test_grouped_and_one_dimensional_convolutions_integrators_and_scales(tmp_path: Path) -> None:
    grouped = chain(
        tmp_path / "two.nir", (4, 6, 6), (4, 6, 6), conv(4, 4, 6, seed=1, groups=2), LIF(4, 6, 6),
        conv(4, 4, 6, seed=2), nir.LI(tau=full(2, 4, 6, 6), r=full(2, 4, 6, 6), v_leak=full(0, 4, 6, 6)),
    )  # fmt: skip
    exact_against_brute_force(sa.load_model(grouped), events(3, 5, 4, 6, 6), 5)
    bias = full(0.25, 3)
    line = nir.Conv1d(9, weights(3, 2, 3, seed=1), stride=2, padding=1, dilation=1, groups=1, bias=bias)
    scaled = nir.Scale(full(0.5, 15)), nir.Linear(weights(4, 15, seed=2)), nir.Threshold(full(0.5, 4))
    flat = nir.Flatten({"input": np.array([3, 5])}, 0, -1)
    model = sa.load_model(chain(tmp_path / "one.nir", (2, 9), (4,), line, IF(3, 5), flat, *scaled))
    behind: Any = model.get_submodule("nodes.e")
    unit = lambda weight: 0.5 if weight is behind.weight else 1.0  # noqa: E731
    exact_against_brute_force(model, events(3, 5, 2, 9), 5, unit=unit)


def test_subgraphs_are_part_of_the_graph(tmp_path: Path) -> None:
    """A recurrent layer as snnTorch writes it, and the same graph without a subgraph."""
    ends = {"input": nir.Input({"input": np.array([8])}), "output": nir.Output({"output": np.array([8])})}
    edges = [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
    inner = nir.NIRGraph({**ends, "lif": CubaLIF(8), "w": nir.Linear(weights(8, 8, seed=5))}, edges)
    inside = sa.load_model(chain(tmp_path / "sub.nir", (6,), (8,), nir.Linear(weights(8, 6)), inner))
    flat = nir.Linear(weights(8, 8, seed=5))
    back = [("b", "w"), ("w", "b")]
    path = chain(tmp_path / "flat.nir", (6,), (8,), nir.Linear(weights(8, 6)), CubaLIF(8), edges=back, w=flat)
    x = events(2, 6, 6)
    assert torch.equal(inside(x), sa.load_model(path)(x)) and inside(x).any()
    assert "nodes.b_lif" in dict(inside.named_modules())


# ------------------------------------------------------------------------------------------------ beside other readers
def test_spikes_of_norse(tmp_path: Path) -> None:
    """Convolutions, sums and IF neurons; norse is called layer by layer, since it flattens images into one another."""
    norse = pytest.importorskip("norse.torch")
    flat = nir.Flatten({"input": np.array([4, 4, 4])}, 0, -1), nir.Affine(weights(5, 64, seed=3), full(0.25, 5)), IF(5)
    path = chain(tmp_path / "net.nir", (2, 8, 8), (5,), conv(4, 2, 8, seed=1), IF(4, 8, 8), pool("Sum"), *flat)
    theirs = dict(norse.from_nir(nir.read(path)).named_modules())
    x, states, spikes = events(2, 7, 2, 8, 8), {}, []
    for frame in x.unbind(1):
        for name in "abcdef":
            module = theirs[name]
            if isinstance(module, nn.Flatten):
                frame = frame.flatten(1)
            elif name in "bf":
                frame, states[name] = module(frame, states.get(name))
            else:
                frame = module(frame)
        spikes.append(frame)
    assert torch.equal(sa.load_model(path)(x), torch.stack(spikes)) and torch.stack(spikes).any()


def test_potentials_of_norse(tmp_path: Path) -> None:
    """With a resting potential and a dt that norse is told."""
    norse = pytest.importorskip("norse.torch")
    layer = nir.LIF(tau=full(0.02, 6), r=full(1, 6), v_leak=full(0.25, 6), v_threshold=full(0.5, 6))
    path = chain(tmp_path / "net.nir", (6,), (6,), nir.Linear(weights(6, 6) * 8), layer)
    theirs = dict(norse.from_nir(nir.read(path), dt=0.001).named_modules())
    x, state, spikes = events(3, 40, 6), None, []
    for frame in x.unbind(1):
        out, state = theirs["b"](theirs["a"](frame), state)
        spikes.append(out)
    assert torch.equal(sa.load_model(path, dt=0.001)(x), torch.stack(spikes)) and torch.stack(spikes).any()


def test_spikes_of_snntorch_there_and_back(tmp_path: Path) -> None:
    """snnTorch's own networks, as it writes them: the time step is read off the file, and every spike is the same."""
    snntorch = pytest.importorskip("snntorch")
    export = pytest.importorskip("snntorch.export_nir", reason="needs nirtorch")
    options = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    of = {width: {"beta": torch.full((width,), 0.75), "threshold": torch.ones(width)} for width in (8, 5)}
    last = snntorch.Synaptic(alpha=torch.full((5,), 0.5), output=True, **of[5], **options)
    lif = [snntorch.Leaky(**of[8], **options), last]
    net = nn.Sequential(nn.Linear(6, 8), lif[0], nn.Linear(8, 5), lif[1])
    for number, layer in enumerate((net[0], net[2])):
        layer.weight.data = torch.from_numpy(weights(*layer.weight.shape, seed=number)) * 2
        layer.bias.data.fill_(0.125)
    x = events(3, 9, 6)
    with torch.no_grad():
        nir.write(tmp_path / "net.nir", export.export_to_nir(net, x[0, 0]))
        for neuron in lif:
            neuron.reset_mem()
        spikes = torch.stack([net(frame)[0] for frame in x.unbind(1)])
    model = sa.load_model(str(tmp_path / "net.nir"))
    assert model.provenance["config"]["dt"] == pytest.approx(1e-4)
    assert torch.equal(model(x), spikes) and spikes.any()
    exact_against_brute_force(model, x, 9)


@pytest.mark.parametrize("make", [recurrent, ring])
def test_wiring_of_nirtorch(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """Its interpreter on the modules of ours, step by step, for graphs with a circle and a branch."""
    nirtorch = pytest.importorskip("nirtorch")
    if not hasattr(nirtorch, "nir_to_torch"):
        pytest.skip("this nirtorch has no nir_to_torch")
    path = make(tmp_path / "net.nir")
    model, graph = sa.load_model(path), nir.read(path)
    by_node = {id(node): model.get_submodule(f"nodes.{name}") for name, node in graph.nodes.items() if len(name) == 1}
    kinds = {type(node): lambda node: by_node[id(node)] for node in graph.nodes.values() if id(node) in by_node}
    theirs = nirtorch.nir_to_torch(graph, kinds)
    x = events(3, 8, 6)
    ours, state, spikes = model(x), None, []
    model.reset()
    for frame in x.unbind(1):
        out, state = theirs(frame, state)
        spikes.append(out)
    assert torch.equal(ours, torch.stack(spikes)) and ours.any()


def test_a_bias_in_a_circle_is_there_from_the_first_step(tmp_path: Path) -> None:
    """W 0 + b = b, as snnTorch has it."""
    model = sa.load_model(recurrent(tmp_path / "net.nir", bias=1.25))
    with torch.no_grad():
        first = model(torch.zeros(1, 1, 6))
    assert first.shape == (1, 1, 3)
    assert model.get_submodule("nodes.b")._memories["i"].eq(1.25).all()


# ---------------------------------------------------------------------------------------------------------- time steps
@pytest.mark.parametrize(("r", "dt"), [(2, 1.0), (20, 0.1), (200000, 1e-5)])
def test_the_time_step_is_read_off_the_file(tmp_path: Path, r: float, dt: float) -> None:
    model = sa.load_model(chain(tmp_path / "net.nir", (6,), (6,), nir.Linear(weights(6, 6)), LIF(6, r=r)))
    assert model.provenance["config"]["dt"] == dt
    assert "read off the file" in model.provenance["notes"][0]


def test_a_file_that_leaves_the_time_step_open(tmp_path: Path) -> None:
    path = chain(tmp_path / "net.nir", (6,), (6,), nir.Linear(weights(6, 6)), LIF(6, r=1))
    with pytest.raises(SpikeattnError, match=r"net.nir does not say its time step.*dt=.*shortest is 2; snnTorch"):
        sa.load_model(path)
    assert sa.load_model(path, dt=0.5).provenance["config"]["dt"] == 0.5
    for wrong, said in ((0, "dt is 0;"), (3.0, "up to the shortest tau, 2"), ("fast", "dt is 'fast'; give a number")):
        with pytest.raises(SpikeattnError, match=said):
            sa.load_model(path, dt=wrong)
    mixed = chain(
        tmp_path / "mixed.nir", (6,), (6,), nir.Linear(weights(6, 6)), LIF(6, r=4), nir.Linear(weights(6, 6)), IF(6)
    )
    with pytest.raises(SpikeattnError, match="does not say its time step"):  # 1/2 for one layer, 1 for the other
        sa.load_model(mixed)


# ------------------------------------------------------------------------------------------------------------- refused
def test_without_nir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cnn(tmp_path / "net.nir")
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(SpikeattnError) as caught:
        sa.load_model(path)
    assert str(caught.value).endswith('needs nir, which is not installed: pip install "spikeattn[nir]"')


def test_files_that_are_no_nir_files(tmp_path: Path) -> None:
    import h5py

    for name, content in (("text.nir", b"version https://git-lfs.github.com/spec/v1"), ("empty.nir", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SpikeattnError, match=f"{name} is no NIR file: those are HDF5"):
            sa.load_model(str(tmp_path / name))
    with h5py.File(tmp_path / "other.nir", "w") as file:
        file["data"] = [1, 2, 3]
    with pytest.raises(SpikeattnError, match="other.nir is no NIR file: it is HDF5, and holds no graph of NIR"):
        sa.load_model(str(tmp_path / "other.nir"))
    with pytest.raises(SpikeattnError, match="there is no file .*none.nir"):
        sa.load_model(str(tmp_path / "none.nir"))
    nir.write(tmp_path / "single.nir", IF(3))
    with pytest.raises(SpikeattnError, match="single.nir holds a single IF and no graph"):
        sa.load_model(str(tmp_path / "single.nir"))


def test_corrupt_files(tmp_path: Path) -> None:
    import h5py

    content = Path(cnn(tmp_path / "net.nir")).read_bytes()
    for number, size in enumerate((600, len(content) // 2, len(content) - 40)):
        (tmp_path / f"cut{number}.nir").write_bytes(content[:size])
        with pytest.raises(SpikeattnError, match=f"cut{number}.nir is a corrupt NIR file"):
            sa.load_model(str(tmp_path / f"cut{number}.nir"))
    changes: dict[str, Callable] = {
        "a corrupt NIR file .TypeError: .*'weight'": lambda nodes: nodes["a"].__delitem__("weight"),
        "weight of node 'a' holds NaN": lambda nodes: nodes["a/weight"].__setitem__((0, 0, 0, 0), np.nan),
        "node 'b' is a Delay, which is not supported; supported are Affine": lambda nodes: _as_kind(
            nodes["b"], "Delay"
        ),
        "node 'b' is a Quantum": lambda nodes: _as_kind(nodes["b"], "Quantum"),
        "corrupt .*'r' is a link to another place": lambda nodes: _linked(nodes["b"], h5py.ExternalLink("o.h5", "r")),
        "corrupt .*'r' claims more bytes than the file": lambda nodes: _huge(nodes["b"]),
    }
    for said, change in changes.items():
        (tmp_path / "net.nir").write_bytes(content)
        with h5py.File(tmp_path / "net.nir", "r+") as file:
            change(file["node/nodes"])
        with pytest.raises(SpikeattnError, match=said):
            sa.load_model(str(tmp_path / "net.nir"))


def _linked(node: Any, link: Any) -> None:
    del node["r"]
    node["r"] = link


def _huge(node: Any) -> None:
    """Chunks that were never written take no room in the file."""
    del node["r"]
    node.create_dataset("r", (1 << 40,), dtype=FLOAT, chunks=(1 << 20,))


def _as_kind(node: Any, kind: str) -> None:
    del node["type"]
    node["type"] = kind


def test_graphs_that_cannot_run(tmp_path: Path) -> None:
    def refused(said: str, *layers: Any, **more: Any) -> None:
        with pytest.raises(SpikeattnError, match=said):
            sa.load_model(chain(tmp_path / "net.nir", (6,), (6,), *layers, **more))

    refused(
        "its layers do not fit together: mat1 and mat2", nir.Linear(weights(8, 6)), IF(8), nir.Linear(weights(6, 7))
    )
    refused(r"neurons of shape \(7,\) get input of shape \(8,\)", nir.Linear(weights(8, 6)), IF(7))
    loop = {"edges": [("a", "w"), ("w", "a")], "w": nir.Linear(weights(6, 8))}
    refused("'a' -> 'w' is a circle without a neuron", nir.Linear(weights(8, 6)), IF(8), **loop)
    refused("nothing leads from the input 'input' to node 'w'", nir.Linear(weights(6, 6)), IF(6), w=IF(6))
    refused("supported is one matrix", nir.Linear(weights(2, 6, 6)), IF(6))


def test_wrong_arguments_and_input(tmp_path: Path) -> None:
    path = cnn(tmp_path / "net.nir")
    with pytest.raises(SpikeattnError, match="unknown argument of net.nir 'T': .*valid are dt, time_steps"):
        sa.load_model(path, T=4)
    for options in ({"pretrained": True}, {"checkpoint": "w.pth"}):
        with pytest.raises(SpikeattnError, match="a NIR file holds its weights"):
            sa.load_model(path, **options)
    with pytest.raises(SpikeattnError, match="time_steps is 0; give a whole number of at least 1"):
        sa.load_model(path, time_steps=0)
    model = sa.load_model(path, time_steps=4)
    with pytest.raises(SpikeattnError, match=r"net.nir takes frames \[B, T, 2, 8, 8\] or images \[B, 2, 8, 8\], and"):
        model(torch.zeros(1, 4, 2, 9, 9))
    with pytest.raises(SpikeattnError, match=r"time_steps=4, and frames of shape \(1, 5, 2, 8, 8\) have 5"):
        model(torch.zeros(1, 5, 2, 8, 8))


def test_an_address_that_ends_alike_is_a_file_of_python(tmp_path: Path) -> None:
    """Whatever is not a .nir file goes where it went before."""
    with pytest.raises(SpikeattnError, match="FILE.nir for one in a NIR file"):
        sa.load_model("no_such_model")
