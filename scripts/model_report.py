"""A small report of one trained model, to be committed: its card, rates, energy, comparison and attention.

    spikeattn profile --model sdt_digits --pretrained --data digits --out runs/digits
    spikeattn attend --model sdt_digits --pretrained --data digits --limit 20 --pictures 5 --out runs/digits_attention
    python scripts/model_report.py runs/digits --attention runs/digits_attention --out reports/digits

Nothing is run again: `report.md` and the tables beside it follow from the folders of the two commands, which it names.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

import spikeattn as sa
from spikeattn.cli.output import headline, to_json
from spikeattn.energy.comparison import compare
from spikeattn.reporting import to_markdown
from spikeattn.reporting.tables.analyses import lines_of
from spikeattn.reporting.tables.run_tables import rate_table
from spikeattn.storage import csv_text

CONVENTIONS = ("exact", "sdt-paper")
CHANCE = 1.25  # as many times the level of p are still said to be chance: tokens of an image are not independent
CARD = ("data", "split", "augmentation", "seed", "epochs", "selection", "optimiser", "device", "neurons")
CARD += ("training_seconds", "torch", "timm", "spikingjelly", "date", "command")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `spikeattn profile --out` wrote")
    parser.add_argument("--attention", type=Path, metavar="DIR", help="folder that `spikeattn attend --out` wrote")
    parser.add_argument("--twin", type=Path, metavar="FILE", help="trained weights of the ANN twin, for its accuracy")
    parser.add_argument("--log", type=Path, metavar="CSV", help="log of the training, copied beside")
    parser.add_argument(
        "--note", action="append", default=[], metavar="TEXT", help="what a reader must know; repeatable"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    profile = sa.Profile.load(args.run)
    summary = profile.summary() | {"lines": [line.to_dict() for line in lines_of(profile)]}
    sections = [
        _opening(profile, summary, args),
        _card(profile.provenance["settings"]["model"]["card"], "How it was trained"),
        _rates(profile, args.out),
        _energy(profile, args.out),
        _comparison(profile, args),
        _attention(args) if args.attention else "",
        _notes(profile, args.note),
    ]
    (args.out / "report.md").write_text("\n\n".join(part for part in sections if part) + "\n", encoding="utf-8")
    (args.out / "summary.json").write_text(to_json(summary), encoding="utf-8")
    if args.log:
        shutil.copyfile(args.log, args.out / "training.csv")
    print(args.out / "report.md")


def _opening(profile: sa.Profile, summary: dict[str, Any], args: argparse.Namespace) -> str:
    data = profile.provenance["settings"]["data"]
    commands = [profile.provenance.get("command", "")]
    if args.attention:
        commands.append(_attended(args)["command"])
    twin = f" --twin {args.twin.name}" if args.twin else ""
    attention = f" --attention {args.attention}" if args.attention else ""
    log = f" --log {args.log.name}" if args.log else ""
    notes = "".join(f" --note {shlex.quote(note)}" for note in args.note)
    commands.append(f"python scripts/model_report.py {args.run}{attention}{twin}{log}{notes} --out {args.out}")
    note = "**The events are SIMULATED: no camera recorded them.** " if data.get("simulated") else ""
    return "\n".join(
        [
            f"# {profile.ledger.model['name']} on {data['name']}",
            "",
            f"{note}{profile.n_images} images of the {data['split']} split, T = {profile.time_steps}. Input: "
            f"{data['transform']}. Made by",
            "",
            "```sh",
            *(_without_paths(command) for command in commands),
            "```",
            "",
            "```text",
            headline(summary),
            "```",
        ]
    )


def _card(card: dict[str, Any], heading: str) -> str:
    low_high = card.get("test_accuracy_wilson_95", "")
    rows = [("test accuracy", f"{card['test_accuracy']} ({card['test_correct']}/{card['test_images']}), {low_high}")]
    rows += [(key.replace("_", " "), _without_paths(card[key])) for key in CARD if key in card]
    lines = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows]
    return "\n".join([f"## {heading}", "", "| | |", "| --- | --- |", *lines])


def _rates(profile: sa.Profile, out: Path) -> str:
    table = rate_table(profile)
    csv_text.save(table, out / "rates.csv", "%.6g")
    steps = profile.over_time()
    csv_text.save(steps, out / "over_time.csv", "%.6g")
    accuracy = ", ".join(f"{row['accuracy']:.4f} after T = {row['t']}" for row in steps.to_dict("records"))
    return f"## Firing rates\n\nAccuracy: {accuracy} (`over_time.csv`).\n\n{to_markdown(table, '').strip()}"


def _energy(profile: sa.Profile, out: Path) -> str:
    tables = [profile.energy(convention=name) for name in CONVENTIONS]
    frames = [pd.DataFrame(table).assign(convention=table.convention.name) for table in tables]
    csv_text.save(pd.concat(frames), out / "energy.csv", "%.6g")
    lines = []
    for table in tables:
        total = table.total
        lines.append(
            f"- `{table.convention.name}`, {table.costs.name}: {1e3 * total.value:.4g} uJ per image "
            f"[{1e3 * total.low:.4g}, {1e3 * total.high:.4g}] ({total.method}, {total.confidence:.0%} over images)"
        )
    return "\n".join(["## Energy", "", "Arithmetic only, no measurement of a chip; parts in `energy.csv`.", "", *lines])


def _comparison(profile: sa.Profile, args: argparse.Namespace) -> str:
    found = compare(profile)
    csv_text.save(found.parts, args.out / "compare.csv", "%.6g")
    lines = [f"## Beside {found.against}", "", *(f"- {sentence}" for sentence in found.sentences)]
    if args.twin:
        from spikeattn.models import load_checkpoint

        card = load_checkpoint(args.twin).metadata
        own = profile.over_time().iloc[-1]
        lines += [
            f"- Accuracy: {own['accuracy']:.4f} [{own['accuracy_low']:.4f}, {own['accuracy_high']:.4f}] spiking, "
            f"{card['test_accuracy']} {card['test_accuracy_wilson_95']} without spikes ({card['epochs']} epochs of the "
            "same recipe; one run each, so the difference holds for these two sets of weights).",
            "",
            _card(card, "How the twin was trained"),
        ]
    return "\n".join(lines)


def _attention(args: argparse.Namespace) -> str:
    summary = _attended(args)
    images = pd.DataFrame(summary["images"])
    csv_text.save(images, args.out / "attention.csv", "%.6g")
    lines = ["## Attention: what is more than noise", ""]
    for network in summary["networks"]:
        own = images[images["model"] == network["title"]]
        lines.append(f"- {network['title']} ({network['details']}; {network['rule']}), {_shares(own)}")
        lines += [f"  - {question}: {sentence}" for question, sentence in network["questions"].items()]
        lines.append(f"  - {network['promise']} {_chance(own, network['rule'])}".rstrip())
    if "agreement" in summary:
        rows = pd.DataFrame(summary["agreement"])
        lines.append(f"- {summary['comparison']['reason']}")
        lines += [f"  - {name}: {_agreement(own)}" for name, own in rows.groupby("question", sort=False)]
    for name in ("overview", *sorted(f"beside/{path.stem}" for path in (args.attention / "beside").glob("*.svg"))[:2]):
        picture = args.attention / f"{name}.svg"
        if picture.is_file():
            target = args.out / f"attention_{picture.stem}.svg"
            shutil.copyfile(picture, target)
            lines += ["", f"![{picture.stem}]({target.name})"]
    return "\n".join([*lines, "", "Per image: `attention.csv`."])


def _shares(images: pd.DataFrame) -> str:
    """What is significant on average, to each question that the maps were asked."""
    where = images["significant_where"]
    asked = {"how much": images["significant"], "where": where} if where.notna().any() else {"": images["significant"]}
    texts = [
        f"{name}{': ' * bool(name)}{share.mean():.1%} of the tokens are significant on average, "
        f"{int((share == 0).sum())} images have none"
        for name, share in asked.items()
    ]
    estimated = "" if (images["pi0"] == 1).all() else f"; pi0 {images['pi0'].mean():.2f}"
    return f"{len(images)} images: {'; '.join(texts)}{estimated}."


def _agreement(rows: pd.DataFrame) -> str:
    means = rows.mean(numeric_only=True)
    return (
        f"a rank correlation of {means['rank_correlation']:.2f} on average; {means['both']:.1%} of the image is "
        f"significant to both, {means['either']:.1%} to either."
    )


def _chance(images: pd.DataFrame, rule: str) -> str:
    """Whether anything is told apart from noise; of p what passes by chance (two-sided p less), and what q keeps."""
    if rule.startswith("q ≤ ") and images["significant"].eq(0).all():
        return "**No attention here is told apart from noise.**"
    if not rule.startswith("p ≤ "):
        return ""
    level, kept, strict = float(rule.removeprefix("p ≤ ")), images["significant"].mean(), images["significant_q"]
    text = f"By chance alone up to {level:.0%} of the tokens pass {rule}"
    if strict.notna().all():
        text += f"; q ≤ 0.1, which controls the false discovery rate, keeps {strict.mean():.1%}"
    if kept <= CHANCE * level and strict.eq(0).all():
        return f"{text}. **So this is chance: no attention here is told apart from noise.**"
    return f"{text}."


def _notes(profile: sa.Profile, notes: list[str]) -> str:
    settings = profile.provenance["settings"]
    card, last = settings["model"]["card"], profile.over_time().iloc[-1]
    counted = round(last["accuracy"] * last["n_labelled"])
    lines = [*notes, *profile.warnings]
    if str(int(last["n_labelled"])) == card.get("test_images") and str(counted) != card["test_correct"]:
        lines.append(
            f"The run classifies {counted} images right, the test of the training {card['test_correct']}: another "
            f"arithmetic (here {settings['device_name']}, TF32 {settings['tf32']}; there float32 without TF32) sums in "
            "another order, and in a deep spiking network a flipped rounding flips spikes."
        )
    return "\n".join(["## Notes", "", *(f"- {line}" for line in lines)]) if lines else ""


def _attended(args: argparse.Namespace) -> dict[str, Any]:
    return json.loads((args.attention / "summary.json").read_text(encoding="utf-8"))


def _without_paths(text: Any) -> str:
    """A command without folders of the machine it ran on: NAME:PATH for data, the last part of absolute paths."""
    words = []
    for word in str(text).split(" "):
        name, colon, path = word.partition(":")
        if colon and "/" in path:
            word = f"{name}:PATH"
        words.append(word.rpartition("/")[2] if word.startswith("/") else word)
    return " ".join(words)


if __name__ == "__main__":
    main()
