"""The pixels of one image file, or why there are none."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from spikeattn.data.dataset import unreadable_kind
from spikeattn.data.image_files import FORMATS

_READ = tuple(dict.fromkeys(FORMATS.values()))
# What Pillow's decoders raise on files of these formats that are damaged; zlib.error and struct.error among them.
UNDECODABLE = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error,
)  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, mode: str) -> Image.Image:
    """Decode an image file to "RGB" or "L" as timm does (alpha dropped, orientation tag ignored), 16 bits scaled to 8.

    Raises:
        OSError, ValueError and others of Pillow: not an image of our formats, truncated, more pixels than Pillow
        warns of (`Image.MAX_IMAGE_PIXELS`), or pixels without a defined white level (32-bit integers and floats).
    """
    if kind := unreadable_kind(data[:64]):
        raise ValueError(kind)
    if data.startswith(_PNG):
        _check_png(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, on the terminal of a user who cannot tell which file it was
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # said by the header, before any pixel is made
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=_READ)
        except UnidentifiedImageError as error:
            raise ValueError(f"not an image of the formats {', '.join(_READ)}") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"too many pixels: {error}") from error
        image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow's own conversion clips everything above 255 to white.
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no defined white level: convert the image to 8 or 16 bits")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _check_png(data: bytes) -> None:
    """The checksums of a PNG file's chunks, which Pillow does not look at for pixels: ValueError names a wrong one."""
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        head = data[position : position + 8]
        if len(head) < 8:
            raise ValueError("image file is truncated")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        content = data[position + 4 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise ValueError("image file is truncated")
        if zlib.crc32(content) != int.from_bytes(checksum, "big"):
            raise ValueError(f"damaged: the checksum of its chunk {kind.decode('ascii', 'backslashreplace')} is wrong")
        position += 12 + length
