"""The CPU kernels of the fast path, compiled once per machine with its C compiler and called through ctypes.

Sources are `kernels.c`, for convolutions of spikes `spike_conv.c`, and `foreign.c` for the networks of others, whose
tensors keep their order (`foreign_kernels`). Here tensors are [T, B, C, H, W] in channels-last
memory, spikes are bools. Compiling takes one or two seconds; the library is kept in a folder of the user's own
(`kernel_cache`) under the hash of everything that it depends on.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import shlex
import threading
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.fast import c_compiler, kernel_cache
from spikeattn.fast.arena import empty

_NAMES = ("kernels.c", "spike_conv.c", "foreign.c", "count.c", "pairs.c", "real_sums.c")
SOURCES = tuple(Path(__file__).with_name(name) for name in _NAMES)
HEADERS = tuple(
    Path(__file__).with_name(name) for name in ("charge.h", "spike_lists.h", "blocks.h", "quantiser.h", "norm.h")
)
WIDTH = 64  # output channels that a convolution sums side by side; as in the sources, like the next two
_BLOCK = 32  # output channels of a row of weights
_SUPER = 2048  # channels behind a row of -0.0
_STEPS = 1024  # time steps that the convolution's neuron takes: a tile of all of them fits in the second cache
_NO_NEURON = (1.0, ctypes.c_int(0), 1.0, None, None, None)
_ROW = (1 << 31) - 1  # channels of one position that an int32 counts, in the source
_POSITIONS = 1 << 24  # positions whose sum float32 holds exactly
_LARGEST = 1 << 53  # counts travel as float64, which holds every integer up to here
# No contraction into fused multiply-adds: a product is rounded before it is added, on every machine alike.
_FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=c11")
_TUNED = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-fopenmp",), ())  # the first that works


@dataclass(frozen=True)
class Build:
    """What became of the compilation.

    Attributes:
        library: the compiled file, or None.
        compiler: how the compiler is called, or None.
        flags: what it was called with.
        reason: why there is no library; empty where there is one.
        kernels: the library, loaded.
    """

    library: Path | None
    compiler: str | None
    flags: tuple[str, ...] = ()
    reason: str = ""
    kernels: ctypes.CDLL | None = field(default=None, repr=False, compare=False)

    @property
    def threads(self) -> bool:
        """Whether the kernels use several threads."""
        return "-fopenmp" in self.flags


def compiler() -> str | None:
    """How the C compiler is called: $CC with its arguments, else cc, gcc or clang; None where there is none."""
    return shlex.join(c_compiler.compiler_command()) or None


@cache
def build() -> Build:
    """Compile the kernels, or find them in the cache, and load them."""
    called, reasons = compiler(), []
    if called is None:
        return Build(None, None, reason="no C compiler found (looked for $CC, cc, gcc and clang)")
    command = tuple(shlex.split(called))
    try:
        said = c_compiler.version_of(command)
        for path in kernel_cache.cache_folders():
            try:
                return _build_in(kernel_cache.private_folder(path), command, said)
            except c_compiler.CompilerHangs:
                raise
            except (kernel_cache.UnusableFolder, c_compiler.CompilerFailed) as error:
                reasons.append(str(error))
            except OSError as error:
                reasons.append(f"{path}: {error.strerror or error}")
    except c_compiler.CompilerFailed as error:
        reasons.append(str(error))
    reason = "; ".join(dict.fromkeys(reasons)) or "there is no folder to keep them in: set XDG_CACHE_HOME"
    return Build(None, called, reason=f"{called} cannot compile the kernels: {reason}")


def _build_in(folder: Path, command: tuple[str, ...], said: str) -> Build:
    """The kernels with the first flags that work, kept in a private folder; the last failure where none do."""
    failed = c_compiler.CompilerFailed("no flags to try")
    for tuned in _TUNED:
        flags = (*_FLAGS, *tuned)
        key = _key(command, said, flags)
        library = kernel_cache.find_library(folder, key)
        try:
            if library is None:
                make = partial(c_compiler.compile_library, command, flags, SOURCES)
                library = kernel_cache.keep_library(folder, key, make)
        except c_compiler.CompilerHangs:
            raise
        except c_compiler.CompilerFailed as error:
            failed = error
            continue
        return Build(library, shlex.join(command), flags, kernels=kernel_cache.load_library(library))
    raise failed


def _key(command: tuple[str, ...], said: str, flags: tuple[str, ...]) -> str:
    """The hash of all that a library depends on; a cache folder may be shared by different machines."""
    text = [file.read_text(encoding="utf-8") for file in (*SOURCES, *HEADERS)]
    facts = [*text, *command, said, *flags, platform.machine(), _processor()]
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else [platform.processor()]
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def library() -> ctypes.CDLL:
    """The kernels, compiled and loaded.

    Raises:
        SpikeattnError: there are none here.
    """
    made = build()
    if made.kernels is None:
        raise SpikeattnError(f"the fast path needs compiled kernels: {made.reason}; use plain=True")
    return made.kernels


def call(name: str, *arguments: object) -> int:
    """Run a function of the library in as many threads as torch takes; what it returns is worth reading for some."""
    return ask(name, *arguments, ctypes.c_int(torch.get_num_threads()))


def ask(name: str, *arguments: object) -> int:
    """What a function of the library returns, which is nothing worth reading for some of them."""
    function = _function(library(), name)
    if function.argtypes is None:  # the first call says what it takes; to convert each argument takes its time
        function.argtypes = tuple(map(_type_in_c, arguments))
    result: int = function(*[each.data_ptr() if isinstance(each, Tensor) else each for each in arguments])
    return result


@cache
def _function(kernels: ctypes.CDLL, name: str) -> Any:
    function = getattr(kernels, f"spikeattn_{name}")
    function.restype = ctypes.c_int64
    return function


def _type_in_c(value: object) -> type:
    """What the source takes: a pointer, an int64 or a float; others are of C already."""
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p
    if isinstance(value, int) and not isinstance(value, bool):
        return ctypes.c_int64
    return ctypes.c_float if isinstance(value, float) else type(value)


def _rows(x: Tensor) -> Tensor:
    """[T, B, C, H, W] -> [T, B, H, W, C], contiguous; no copy where it is channels-last already."""
    return x.permute(0, 1, 3, 4, 2).contiguous()


def _columns(x: Tensor) -> Tensor:
    """[T, B, H, W, C] -> [T, B, C, H, W] in the same memory."""
    return x.permute(0, 1, 4, 2, 3)


def _zeros(x: Tensor) -> Tensor:
    """Counts [T, B], to be added to."""
    return torch.zeros(x.shape[:2], dtype=torch.int64)


def _check_counts(channels: int, positions: int, fan_out: Tensor | None) -> None:
    """Refuse sizes whose counts could be wrong: more than the source's integers, or float64, can hold."""
    if channels > _ROW:
        raise SpikeattnError(f"the fast path counts up to {_ROW:,} channels, not {channels:,}; use plain=True")
    if fan_out is not None and positions:
        most = channels * positions * int(fan_out.max())
        if most >= _LARGEST:
            raise SpikeattnError(
                f"{channels:,} channels of {positions:,} positions with fan-outs of up to {int(fan_out.max()):,} can "
                f"make {most:,} additions per image and time step; counts are exact below 2**53 ({_LARGEST:,})"
            )


def _check_positions(positions: int) -> None:
    if positions > _POSITIONS:
        raise SpikeattnError(
            f"the fast path sums over up to 2**24 ({_POSITIONS:,}) positions, beyond which float32 is inexact; these "
            f"are {positions:,}: use plain=True"
        )


def lif(
    x: Tensor, tau: float, multiply: bool, threshold: float, fan_out: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, int]:
    """Spikes of a leaky integrate-and-fire neuron from rest: charge v + (x - v) / tau, hard reset to 0.

    Args:
        x: [T, B, C, H, W] float32; expanded over T, it is read once per step from the same memory.
        multiply: the charge is v + (x - v) * tau instead.
        fan_out: [H * W] int64, to weigh the spikes of each position with; or None.

    Returns:
        Spikes like x; counts [T, B]; weighed counts [T, B] or None; the number of potentials that are NaN or infinite.
    """
    T, B, C, H, W = x.shape
    _check_counts(C, H * W, fan_out)
    still = x.stride(0) == 0 and T > 1
    rows = _rows(x[:1] if still else x)
    spikes = empty((T, B, H, W, C), torch.bool)
    counts, fans = _zeros(x), None if fan_out is None else _zeros(x)
    step = 0 if still else rows.stride(0)
    nonfinite = call(
        "lif", rows, step, spikes, T, B, H * W, C, float(tau), ctypes.c_int(multiply), float(threshold), fan_out,
        counts, fans,
    )  # fmt: skip
    return _columns(spikes), counts, fans, nonfinite


def pool(x: Tensor, stride: int, fan_out: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """3x3 max-pool with padding 1 of spikes, with their counts and weighed counts as in `lif`."""
    T, B, C, H, W = x.shape
    rows, columns = (H - 1) // stride + 1, (W - 1) // stride + 1
    _check_counts(C, rows * columns, fan_out)
    y = empty((T, B, rows, columns, C), torch.bool)
    counts, fans = _zeros(x), None if fan_out is None else _zeros(x)
    call("pool", _rows(x), y, T * B, H, W, C, stride, fan_out, counts, fans)
    return _columns(y), counts, fans


def pool_real(x: Tensor, stride: int) -> Tensor:
    """3x3 max-pool with padding 1 of real numbers [T, B, C, H, W]."""
    T, B, C, H, W = x.shape
    y = empty((T, B, (H - 1) // stride + 1, (W - 1) // stride + 1, C))
    call("pool_real", _rows(x), y, T * B, H, W, C, stride)
    return _columns(y)


def mask(a: Tensor, b: Tensor, votes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """a AND b [T, B, C, H, W], counts [T, B], and the sum over positions [T, B, C, 1, 1] if `votes`.

    b has the shape of a, or H = W = 1.
    """
    T, B, C, H, W = a.shape
    _check_counts(C, H * W, None)
    if votes:
        _check_positions(H * W)
    y, counts = empty((T, B, H, W, C), torch.bool), _zeros(a)
    sums = torch.empty((T, B, 1, 1, C)) if votes else None
    one = b.shape[3:] == (1, 1) and H * W > 1
    call("mask", _rows(a), _rows(b), ctypes.c_int(one), y, sums, T * B, H * W, C, counts)
    return _columns(y), counts, None if sums is None else _columns(sums)


def mean(x: Tensor) -> Tensor:
    """Mean over positions, [T, B, C, H, W] -> [T, B, C]."""
    T, B, C, H, W = x.shape
    _check_positions(H * W)
    y = torch.empty((T, B, C))
    call("mean", _rows(x), y, T * B, H * W, C)
    return y


def pack(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [O, I, K, K] and bias [O] as the kernels read them.

    Weights are [blocks of 32 outputs, K * K, rows, 32], where every 2,048 channels stand behind a row of -0.0; the bias
    is [blocks / 2, 64]. Outputs are filled up with zeros to a multiple of 64.
    """
    outputs, inputs, K, _ = weight.shape
    filled = -(-outputs // WIDTH) * WIDTH
    wide = torch.zeros((K * K, inputs, filled))
    wide[..., :outputs] = weight.permute(2, 3, 1, 0).reshape(K * K, inputs, outputs)
    pad = torch.full((K * K, 1, filled), -0.0)
    rows = torch.cat([part for piece in wide.split(_SUPER, dim=1) for part in (pad, piece)], dim=1)
    padded = torch.zeros(filled)
    padded[:outputs] = bias
    return rows.unflatten(2, (-1, _BLOCK)).permute(2, 0, 1, 3).contiguous(), padded.view(-1, WIDTH)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor, out_channels: int, kernel: int, shortcut: Tensor | None = None
) -> Tensor:
    """Convolution with stride 1 and padding kernel // 2 under packed weights: [T, B, I, H, W] -> [T, B, O, H, W].

    Spikes (bools) add weights; real numbers multiply them. An input expanded over T gives an output expanded over T.

    Args:
        shortcut: of the output's shape, float32; is added to it.
    """
    T, B, C, H, W = x.shape
    if x.stride(0) == 0 and T > 1:
        y = conv(x[:1], weight, bias, out_channels, kernel).expand(T, -1, -1, -1, -1)
        return y if shortcut is None else shortcut + y
    y = empty((T, B, H, W, out_channels))
    if x.dtype == torch.bool:
        # no neuron needs all time steps side by side, so they may as well be images
        _sum_spikes(x, weight, bias, shortcut, y, (1, T * B, H, W, C, out_channels, kernel), None, *_NO_NEURON)
    else:
        call("conv_real", _rows(x.float()), weight, bias, y, T * B, H, W, C, out_channels, kernel)
        y = y if shortcut is None else _rows(shortcut) + y
    return _columns(y)


def conv_lif(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    out_channels: int,
    kernel: int,
    shortcut: Tensor | None,
    keep: bool,
    tau: float,
    multiply: bool,
    threshold: float,
    fan_out: Tensor | None,
) -> tuple[Tensor | None, tuple[Tensor, Tensor, Tensor | None, int]]:
    """What `conv` gives for spikes, if `keep`, and what `lif` makes of it, to the bit."""
    T, B, C, H, W = x.shape
    if T > _STEPS:
        sums = conv(x, weight, bias, out_channels, kernel, shortcut)
        return sums if keep else None, lif(sums, tau, multiply, threshold, fan_out)
    _check_counts(out_channels, H * W, fan_out)
    y = empty((T, B, H, W, out_channels)) if keep else None
    spikes = empty((T, B, H, W, out_channels), torch.bool)
    counts, fans = _zeros(x), None if fan_out is None else _zeros(x)
    nonfinite = _sum_spikes(
        x, weight, bias, shortcut, y, (T, B, H, W, C, out_channels, kernel), spikes, float(tau),
        ctypes.c_int(multiply), float(threshold), fan_out, counts, fans,
    )  # fmt: skip
    return None if y is None else _columns(y), (_columns(spikes), counts, fans, nonfinite)


def _sum_spikes(
    x: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None, y: Tensor | None, sizes: tuple[int, ...],
    *neuron: object,
) -> int:  # fmt: skip
    """The kernel, in memory that is kept for it.

    Every Python thread keeps memory for the next convolution, as new one costs a page fault per 4 KiB; within a thread
    no two run at a time.
    """
    each = ask("conv_room", *sizes)
    size = each * torch.get_num_threads()
    room: Tensor | None = getattr(_rooms, "kept", None)
    if room is None or len(room) < size:
        room = _rooms.kept = torch.empty(size, dtype=torch.uint8)
    added = None if shortcut is None else _rows(shortcut)
    return call("conv", _rows(x), weight, bias, added, y, *sizes, room, each, *neuron)


_rooms = threading.local()
