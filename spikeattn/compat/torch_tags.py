"""Tags of torch's operations, with those that older versions lack: reductions have none before torch 2.6 at least."""

from __future__ import annotations

from typing import Any

# Operations of aten that torch 2.11 tags and torch 2.1 does not, or 2.4 either (tests/compat/test_torch_tags.py
# compares them with the tags of the installed version).
POINTWISE = frozenset(
    "celu elu frexp hardshrink hardsigmoid hardtanh isfinite isinf ldexp mish rad2deg relu6 selu silu silu_backward "
    "softplus softshrink special_chebyshev_polynomial_v special_chebyshev_polynomial_w special_legendre_polynomial_p "
    "special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u "
    "special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w threshold".split()
)
REDUCTION = frozenset(
    "all amax amin aminmax any argmax argmin count_nonzero linalg_vector_norm logsumexp max mean min nansum norm prod "
    "std std_mean sum var var_mean".split()
)


def is_pointwise(func: Any) -> bool:
    """Whether an overload works element by element."""
    import torch

    return torch.Tag.pointwise in func.tags or _aten(func) in POINTWISE


def is_reduction(func: Any) -> bool:
    """Whether an overload makes one number of several."""
    import torch

    tag = getattr(torch.Tag, "reduction", None)
    return _aten(func) in REDUCTION if tag is None else tag in func.tags


def _aten(func: Any) -> str:
    space, _, name = func._schema.name.partition("::")
    return str(name).rstrip("_") if space == "aten" else ""
