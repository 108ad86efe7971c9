"""The pictures of docs/gallery.md, from the files of one `spikeattn report`.

    spikeattn report --out build/gallery
    python scripts/gallery.py build/gallery

Chromium takes the pictures of the page, pdflatex sets the tables and pdftoppm (poppler) turns them into pictures; a
figure and a panel of the attention are the report's own. Each is brought to `WIDTH` pixels at most and `COLOURS`
colours: pages are read over slow lines, too. Writes docs/assets/gallery/*.png and docs/assets/report.png.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"
WIDTH, COLOURS = 1000, 128  # pixels, and entries of a palette: flat colours, letters and a scale of blues
SCREEN, FURTHER = (1200, 860), 2600  # pixels: what is seen first, and how far down the second picture goes
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--virtual-time-budget=8000")  # fmt: skip
FIGURES = ("firing_rates", "over_time", "accuracy_energy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="what `spikeattn report --out` wrote, with attention")
    folder = parser.parse_args().report
    missing = [name for name in ("chromium", "pdflatex", "pdftoppm") if shutil.which(name) is None]
    if missing or not (folder / "report.html").is_file():
        raise SystemExit(f"error: {', '.join(missing) or folder / 'report.html'} is missing; see docs/development.md")
    (ASSETS / "gallery").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        width, height = SCREEN
        shot = screen((folder / "report.html").resolve().as_uri(), place / "page.png")
        save(shot.crop((0, 0, width, height)), ASSETS / "report.png", width)
        save(shot.crop((0, height, width, FURTHER)), ASSETS / "gallery" / "page.png")
        for number, picture in enumerate(tables(folder, place), 1):
            save(picture, ASSETS / "gallery" / f"paper_{number}.png")
        for name in FIGURES:
            save(Image.open(folder / "figures" / f"{name}.png"), ASSETS / "gallery" / f"{name}.png")
        save(Image.open(sorted((folder / "attention" / "gallery").glob("*.png"))[0]), ASSETS / "gallery/attention.png")


def screen(address: str, to: Path) -> Image.Image:
    """The top of a page, in a browser with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        words = [
            *CHROMIUM,
            f"--user-data-dir={profile}",
            f"--window-size={SCREEN[0]},{FURTHER}",
            f"--screenshot={to}",
            address,
        ]
        subprocess.run(words, check=True, capture_output=True)
    return Image.open(to)


def tables(folder: Path, place: Path) -> list[Image.Image]:
    """The first two pages of main.pdf, without their margins: the sentences, and the tables."""
    shutil.copytree(folder, place / "paper")
    for command in (["pdflatex", "-interaction=nonstopmode", "main"], ["bibtex", "main"]):
        subprocess.run(command, cwd=place / "paper", check=True, capture_output=True)
    for _ in range(2):
        subprocess.run(["pdflatex", "-interaction=nonstopmode", "main"], cwd=place / "paper", capture_output=True)
    subprocess.run(["pdftoppm", "-png", "-r", "130", "-l", "2", "main.pdf", "at"], cwd=place / "paper", check=True)
    return [trimmed(Image.open(path).convert("RGB")) for path in sorted((place / "paper").glob("at-*.png"))]


def trimmed(picture: Image.Image, margin: int = 20) -> Image.Image:
    """What is not white, with a margin of so many pixels."""
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    assert box is not None, "an empty page"
    left, top, right, bottom = box
    return picture.crop((left - margin, top - margin, right + margin, bottom + margin))


def save(picture: Image.Image, to: Path, width: int = WIDTH) -> None:
    """The picture at a width at most, in a palette that keeps colours of small areas, too."""
    picture = picture.convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(to, optimize=True)
    print(f"{to.name}: {picture.width} x {picture.height}, {to.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
