"""`spikeattn structure`: the tree, the names file, and what a profile makes of a corrected one."""

from __future__ import annotations

import json

import pytest
import tomllib

import spikeattn as sa
from spikeattn.runs.shards import merge_shards
from tests.models.repositories import PUBLISHED, write

SHAPE = ("--input-shape", "3,20,20")


@pytest.fixture
def model(tmp_path) -> str:
    write(tmp_path / "repo", PUBLISHED)
    return "repo/model.py:Net"


def test_a_tree_of_our_own(spikeattn) -> None:
    done = spikeattn("structure", "sdt_digits")
    assert done.code == 0 and done.out.startswith(
        "sdt_digits: 18 of 18 layers known, 2 blocks, family Spike-driven Transformer, tokens 8x8, heads without effect"
    )
    lines = done.out.splitlines()
    assert lines[lines.index("block 1") :][:4] == [
        "block 1",
        "  QKV",
        "    q          block.1.attn.q_conv     family",
        "    k          block.1.attn.k_conv     family",
    ]


def test_from_the_tree_to_a_corrected_run(spikeattn, model, tmp_path) -> None:
    done = spikeattn("structure", model, *SHAPE, "--out", "names.toml")
    assert done.code == 0 and done.out == "" and "--names names.toml" in done.err
    text = (tmp_path / "names.toml").read_text(encoding="utf-8")
    first = next(iter(tomllib.loads(text)["synapses"]))
    (tmp_path / "names.toml").write_text(f'[synapses]\n"{first}" = {{part = "gate", role = "mine"}}\n')
    again = spikeattn("structure", model, *SHAPE, "--out", "names.toml")
    assert again.code == 2 and "--force to write over it" in again.error
    assert '"mine"' in (tmp_path / "names.toml").read_text()
    shown = json.loads(spikeattn("structure", model, *SHAPE, "--names", "names.toml", "--json").out)
    row = shown["synapses"][0]
    assert (row["part"], row["role"], row["known"]) == ("gate", "mine", "names file")
    assert spikeattn("structure", model, *SHAPE, "--out", "names.toml", "--force").code == 0
    assert '"mine"' not in (tmp_path / "names.toml").read_text()


def test_names_in_a_run_and_afterwards(spikeattn, tmp_path) -> None:
    words = ("profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", 4, "--batch-size", 2)
    (tmp_path / "names.toml").write_text('"head" = {part = "mixing"}\n')
    assert spikeattn(*words, "--names", "names.toml", "--out", "run").code == 0
    profile = sa.Profile.load("run")
    assert profile.ledger.synapse("head").part == "mixing" and profile.ledger.synapse("head").known == "names file"
    assert "mixing" in set(profile.energy().part)
    assert spikeattn("structure", "run").out.splitlines()[-2:] == ["mixing", profile_line("head")]
    renamed = profile.named({"head": "head"})
    assert renamed.ledger.synapse("head").part == "head" and renamed.energy().total == profile.energy().total
    renamed.save("other")
    assert sa.Profile.load("other").ledger.synapse("head").part == "head"


def profile_line(name: str) -> str:
    return f"  {'':<9}  {name:<22}  names file"


@pytest.mark.parametrize("words, code, message", [
    (("nothing_8",), 1, "nothing_8"),
    (("sdt_digits", "--out", "names.csv"), 2, "--out names.csv: a names file is written as .toml"),
    (("sdt_digits", "--force"), 2, "--force goes with --out FILE"),
    (("sdt_digits", "--input-shape", "3,x,2"), 2, "--input-shape 3,x,2"),
    (("sdt_digits", "--input-shape", "3,16,16"), 1, "(1, 3, 16, 16)"),
    (("sdt_digits", "--names", "no.toml"), 1, "no.toml: no such names file"),
    (("sdt_digits", "--neuron-class", "Lif"), 1, "Lif"),
])  # fmt: skip
def test_misuse(spikeattn, words, code, message) -> None:
    done = spikeattn("structure", *words)
    assert done.code == code and message in done.error and done.out == ""


def test_a_key_that_fits_nothing_names_the_closest(spikeattn, tmp_path) -> None:
    (tmp_path / "names.toml").write_text('"heads" = "head"\n')
    done = spikeattn("structure", "sdt_digits", "--names", "names.toml")
    assert done.code == 1 and "did you mean 'head'" in done.error


def test_other_names_are_refused_on_resume_and_merge(tmp_path) -> None:
    from tests.counting.networks import batches, tiny_sdt
    from tests.models.sdt_oracle import exact_input

    model, images = tiny_sdt(), exact_input(4, 3, 16, 16)
    names = {"head": {"part": "mixing"}}
    sa.profile(model, batches(images, 2), out=tmp_path / "0", shard="0/2", names=names)
    sa.profile(model, batches(images, 2), out=tmp_path / "1", shard="1/2")
    with pytest.raises(sa.errors.SpikeattnError, match="other parts, blocks or roles; give the same names file"):
        merge_shards([tmp_path / "0", tmp_path / "1"], tmp_path / "all")

    def broken():
        yield from list(batches(images, 2))[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sa.profile(model, broken(), out=tmp_path / "run", save_every=0)
    with pytest.raises(sa.errors.SpikeattnError, match="resume: names= says other parts"):
        sa.profile(model, batches(images, 2), out=tmp_path / "run", resume=True, names=names)
    assert sa.profile(model, batches(images, 2), out=tmp_path / "run", resume=True).n_images == 4
