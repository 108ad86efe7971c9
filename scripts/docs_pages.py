"""What mkdocs does with the pages beyond Markdown: formulas become MathML, and the page of the commands is made.

A hook of mkdocs.yml. A formula is a block of TeX that says so, which GitHub sets as well:

    ```math
    E = \\sum_k N_k \\cdot \\mathrm{pJ}_k
    ```

MathML needs no script and no request, so pages opened from disk without a network look the same. `cli.md` is no file of
docs/: typer writes it from the commands at every build, so it cannot lag behind them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from textwrap import dedent
from typing import Any

_FORMULA = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\* `([\w-]+)`: .*$", re.MULTILINE)  # of the list of commands, each cut off after 40 characters
_INDENTED = re.compile(r"(?:^ {2,}\S.*\n)+", re.MULTILINE)  # lists and examples of a help text


def on_files(files: Any, config: Any) -> Any:
    """Add the page of the commands."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "cli.md", content=commands_page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Set the formulas of a page."""
    return formulas(markdown)


def formulas(markdown: str) -> str:
    """Markdown with every ```math block as MathML, in a `div` of class `formula`."""
    from latex2mathml.converter import convert  # of the extra `docs`; the page of the commands does without

    return _FORMULA.sub(
        lambda found: f'<div class="formula">{convert(found[1].strip(), display="block")}</div>', markdown
    )


def commands_page() -> str:
    """Every command with its help, arguments and options, as Markdown."""
    call = [sys.executable, "-m", "typer", "spikeattn.cli.app", "utils", "docs", "--name", "spikeattn"]
    text = subprocess.run(call, capture_output=True, text=True, check=True).stdout.replace(
        "\b", ""
    )  # of click: keep these lines
    head, *sections = re.split(r"^(?=## `spikeattn )", text, flags=re.MULTILINE)
    first = {section.split("`")[1].split()[1]: section.split("\n\n")[1].replace("\n", " ") for section in sections}
    start, title, listed = head.replace("# `spikeattn`", "# Commands", 1).partition("**Commands**")
    listed = _COMMAND.sub(lambda found: f"* [{found[1]}](#spikeattn-{found[1]}): {first[found[1]]}", listed)
    body = _INDENTED.sub(lambda found: f"\n```text\n{dedent(found[0]).rstrip()}\n```\n", "".join(sections))
    return start + title + listed + body
