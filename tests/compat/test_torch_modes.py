"""What older versions of Python and torch have under other names, or not at all, is there and does the same."""

import hashlib
import io

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from spikeattn.compat import torch_modes
from spikeattn.compat.python_names import StrEnum, file_sha256, tomllib


def test_names_of_the_standard_library():
    class Colour(StrEnum):
        red = "r"

    assert f"{Colour.red}" == str(Colour.red) == "r" == Colour.red and Colour("r") is Colour.red
    assert tomllib.loads("a = 1") == {"a": 1}
    content = bytes(range(256)) * 3000  # more than one piece
    assert file_sha256(io.BytesIO(content)) == hashlib.sha256(content).hexdigest()


def test_the_counter_of_flops_tells_modules_apart_and_sees_attention():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    q = torch.ones(1, 2, 6, 8)
    with torch.no_grad(), torch_modes.math_attention(), torch_modes.flop_counter(model) as counter:
        model(torch.ones(7, 3))
        scaled_dot_product_attention(q, q, q)
    counts = {path: sum(flops.values()) for path, flops in counter.get_flop_counts().items()}
    assert counts["Sequential.0"] == 2 * 7 * 3 * 4 and counts["Sequential.1"] == 2 * 7 * 4 * 5
    assert counter.get_total_flops() == 2 * 7 * (12 + 20) + 2 * 2 * 2 * 6 * 6 * 8  # two products of two heads


def test_networks_without_memory_may_read_a_range_while_they_are_made():
    with torch_modes.without_memory():
        rates = [rate.item() for rate in torch.linspace(0, 0.5, 3)]
        layer = nn.Linear(3, 4)
    assert rates == [0.0, 0.25, 0.5] and layer.weight.is_meta


def test_formulas_take_shapes():
    mm = torch_modes.flop_formulas()[torch.ops.aten.mm]
    assert mm(torch.Size([2, 3]), torch.Size([3, 5]), out_shape=torch.Size([2, 5])) == 2 * 2 * 3 * 5


def test_compiled_code_runs_as_python():
    """The backend is asked for code only outside."""
    seen = []

    def backend(graph, inputs):
        seen.append("compiled")
        return graph.forward

    double = torch.compile(lambda x: x * 2, backend=backend)
    with torch_modes.force_eager():
        assert double(torch.ones(2)).tolist() == [2, 2] and not seen
    assert double(torch.ones(2)).tolist() == [2, 2] and seen == ["compiled"]


def test_attention_runs_as_its_layers():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x, called = torch.ones(1, 3, 8), []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), torch_modes.slow_attention(), Seen():
        attention(x, x, x)
    assert not [name for name in called if "native_multi_head" in name] and len(called) > 5
    with torch.no_grad(), Seen():
        attention(x, x, x)
    assert [name for name in called if "native_multi_head" in name]
