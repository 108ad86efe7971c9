"""The lists of operations without tags in older versions are those of torch's own tags where it has them."""

import pytest
import torch

from spikeattn.compat.torch_tags import POINTWISE, REDUCTION, is_pointwise, is_reduction

aten = torch.ops.aten


def tagged(tag: torch.Tag, names: frozenset[str]) -> set[str]:
    packets = [(name, getattr(aten, name, None) or getattr(aten, f"{name}_")) for name in names]
    return {name for name, packet in packets if any(tag in getattr(packet, o).tags for o in packet.overloads())}


@pytest.mark.skipif(not hasattr(torch.Tag, "reduction"), reason="this torch has no tag of reductions")
def test_the_lists_say_what_torch_says():
    assert tagged(torch.Tag.reduction, REDUCTION) == REDUCTION
    assert tagged(torch.Tag.pointwise, POINTWISE) == POINTWISE


def test_in_every_version():
    assert is_reduction(aten.mean.dim) and is_reduction(aten.sum.dim_IntList) and not is_reduction(aten.add.Tensor)
    assert is_pointwise(aten.elu.default) and is_pointwise(aten.elu_.default) and not is_pointwise(aten.mm.default)
