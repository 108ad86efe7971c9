"""Set the version of the package: in its one place, in CITATION.cff and docs/cite.md, and as a section of CHANGELOG.md.

    python scripts/release.py 0.2.0        before a release: what is unreleased becomes the section of that version
    python scripts/release.py 0.3.0.dev0   after it: what the next one is called until then; only the version changes

Nothing is committed, tagged or uploaded; what to type next is printed. docs/development.md has the whole way.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import date
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
VERSION, CITATION, CHANGES = "spikeattn/compat/version.py", "CITATION.cff", "CHANGELOG.md"
ENTRY = "docs/cite.md"  # the same for BibTeX
OWN = "spikeattn/reporting/paper/own_entry.py"  # and in the .bib of a report; of a release it has the year
UNRELEASED = "## [Unreleased]\n"
HEADING = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)
AFTER_RELEASE = """next:
  make test
  git commit -am "Release {version}" && git tag v{version}
  make dist
  python -m twine upload dist/spikeattn-{version}*
  python scripts/release.py {then}"""


class Refused(Exception):
    """The version cannot be set; nothing has been written."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="such as 0.2.0, or 0.3.0.dev0 for the time between two releases")
    try:
        version = set_version(ROOT, parser.parse_args().version, date.today())
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the version is {version} now")
    if not version.is_devrelease:
        print(AFTER_RELEASE.format(version=version, then=f"{version.major}.{version.minor + 1}.0.dev0"))
    return 0


def set_version(root: Path, text: str, today: date) -> Version:
    """Write the version into the files of a checkout.

    Raises:
        Refused: it is no version, or not above today's, or there is nothing to release.
    """
    try:
        version = Version(text)
    except InvalidVersion:
        raise Refused(f"{text!r} is no version; give one such as 0.2.0 or 0.3.0.dev0") from None
    files = {name: (root / name).read_text(encoding="utf-8") for name in (VERSION, CITATION, ENTRY, OWN, CHANGES)}
    before = Version(once(r'^__version__ = "(.+)"$', files[VERSION], VERSION)[1])
    if version <= before:
        raise Refused(f"{version} is not above {before}, which {VERSION} has")
    files[VERSION] = files[VERSION].replace(f'"{before}"', f'"{version}"')
    if not version.is_devrelease:
        files[CITATION] = cited(files[CITATION], version, today)
        files[ENTRY] = entered(files[ENTRY], version, today)
        year = once(r"^YEAR = \d+", files[OWN], OWN)[0]
        files[OWN] = files[OWN].replace(year, f"YEAR = {today.year}")
        files[CHANGES] = closed(files[CHANGES], version, today)
    for name, content in files.items():
        (root / name).write_text(content, encoding="utf-8")
    return version


def cited(text: str, version: Version, today: date) -> str:
    """CITATION.cff with that release and its day."""
    once(r"^version: (.+)$", text, CITATION)
    text = re.sub(r"^date-released: .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^version: .+$", f"version: {version}\ndate-released: {today}", text, flags=re.MULTILINE)


def entered(text: str, version: Version, today: date) -> str:
    """docs/cite.md with that release and its day."""
    for line, now in (
        (r"^  year   = \{.*\},$", f"  year   = {{{today.year}}},"),
        (r"^  note   = \{.*\},$", f"  note   = {{Version {version}, released {today}}},"),
    ):
        found = once(line, text, ENTRY)[0]
        text = text.replace(found, now)
    return text


def closed(text: str, version: Version, today: date) -> str:
    """CHANGELOG.md with what was unreleased below the heading of that release."""
    before, heading, rest = text.partition(UNRELEASED)
    if not heading:
        raise Refused(f"{CHANGES} has no heading {UNRELEASED.strip()!r}")
    if not HEADING.split(rest)[0].strip():
        raise Refused(f"{CHANGES} says nothing below {UNRELEASED.strip()!r}: write what has changed first")
    return f"{before}{UNRELEASED}\n## [{version}] - {today}\n{rest}"


def once(pattern: str, text: str, name: str) -> re.Match[str]:
    """The one line of a file that matches."""
    found = list(re.finditer(pattern, text, re.MULTILINE))
    if len(found) != 1:
        raise Refused(f"{name} has {len(found)} lines like {pattern}; it must have one")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
