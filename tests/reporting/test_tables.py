"""Tables: Table S1's layout, energy per block, LaTeX and Markdown."""

from __future__ import annotations

import io
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.boundary.number_format import amount, energy_unit, joules, percent, rate, significant, with_limits
from spikeattn.energy import energy_from_rates, list_conventions
from spikeattn.reporting import block_energy, rate_table, to_latex, to_markdown
from spikeattn.reporting.latex.environments import document, escape_latex
from spikeattn.reporting.latex.typeset import paper_latex
from spikeattn.reporting.tables.run_tables import caption
from spikeattn.reporting.tables.sheets import sheet_of

from .conftest import LATEX


def test_rate_table_has_the_rows_and_names_of_table_s1(profile, references):
    published = pd.read_csv(references / "published" / "table_s1_sdt_8_512.csv", keep_default_na=False)
    table = rate_table(profile)
    assert list(table.columns[:8]) == ["part", "module", "tensor", "code", "T1", "T2", "T3", "T4"]
    ours = list(zip(table["part"], table["module"], table["tensor"], strict=True))
    theirs = [
        row
        for row in zip(published["part"], published["module"], published["tensor"], strict=True)
        if row[0] in ("SPS", "Block1", "Block2", "Head")
    ]
    assert [row for row in ours if row in theirs] == theirs
    assert table.loc[0, "part"] == "Input" and table.loc[0, "code"] == "input"


def test_both_names_stand_side_by_side(profile):
    names = rate_table(profile).set_index(["part", "tensor"])["code"]
    assert names["Block2", "V_S"] == "block.1.attn.q_lif"
    assert names["Block2", "Q_S"] == "block.1.attn.k_lif"
    assert names["SPS", "Conv1 max-pooled"] == "patch_embed.maxpool"


def test_rates_are_counts_over_elements(profile):
    table = rate_table(profile).set_index("code")
    for tensor in profile.ledger.tensors:
        share = profile.counts.column("nnz", tensor.name).mean(axis=0) / tensor.elements
        row = table.loc[tensor.name]
        np.testing.assert_allclose(row[["T1", "T2", "T3", "T4"]].to_numpy(float), share, rtol=1e-14)
        assert row["average"] == pytest.approx(share.mean(), rel=1e-14)
        assert row["low"] <= row["average"] <= row["high"]


def test_csv_reads_back_as_a_published_table(profile):
    table = rate_table(profile)
    text = table[table["part"] != "Input"].to_csv(index=False)
    energy = energy_from_rates(pd.read_csv(io.StringIO(text)), profile.ledger, convention="input-rate")
    assert energy.total.value == pytest.approx(profile.energy(convention="input-rate").total.value, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 4, 10, 16])
def test_any_number_of_time_steps(rates, steps):
    table = rate_table(rates(3, steps))
    assert [c for c in table.columns if re.fullmatch(r"T\d+", c)] == [f"T{t}" for t in range(1, steps + 1)]
    assert (table["tensor"] == table["code"]).all()
    assert {len(row) for row in sheet_of(table).rows} == {steps + 3}


def test_foreign_network_shows_dotted_paths_and_spikes_only(foreign):
    table = rate_table(foreign)
    real = {t.name for t in foreign.ledger.tensors if t.kind == "real" and t.name != "input"}
    assert real and not real & set(table["code"])
    assert [c.title for c in sheet_of(table).columns][:3] == ["Part", "Tensor", "T1"]


@pytest.mark.parametrize("convention", list_conventions())
def test_block_energies_add_up(profile, convention):
    blocks, energy = block_energy(profile, convention=convention), profile.energy(convention=convention)
    assert blocks["energy_mj"].sum() == pytest.approx(energy.total.value, rel=1e-12)
    parts = blocks.groupby("part")["energy_mj"].sum()
    for row in energy.iloc[:-1].itertuples():
        assert parts[row.part] == pytest.approx(row.energy_mj, rel=1e-12)
    assert list(dict.fromkeys(blocks["block"])) == ["SPS", "Block1", "Block2", "Head"]


def test_blocks_of_a_network_without_blocks_are_paths(foreign):
    blocks = block_energy(foreign)
    assert set(blocks["block"]) >= {"stem.0", "stages.0", "Head"}
    assert blocks["energy_mj"].sum() == pytest.approx(foreign.energy().total.value, rel=1e-12)


def test_caption_says_what_a_table_rests_on(profile, single):
    energy = profile.energy(convention="input-rate")
    text = caption(profile, "Energy per image", energy)
    for word in ("sdt_digits", "UNTRAINED", "24 images", "digits (test)", "T = 4", "input-rate", "horowitz-45nm-fp32"):
        assert word in text
    assert "MAC 4.6 pJ, AC 0.9 pJ" in text and "95 % intervals" in text
    text = rate_table(single).attrs["caption"]
    assert "1 image of" in text and "No interval: one image." in text


def test_another_frame_is_refused():
    with pytest.raises(sa.SpikeattnError, match="lacks role, part"):
        rate_table(pd.DataFrame({"tensor": ["a"]}))
    with pytest.raises(sa.SpikeattnError, match="no layout for a table with columns a, b"):
        to_latex(pd.DataFrame({"a": [1], "b": [2]}))


def small_table() -> pd.DataFrame:
    table = pd.DataFrame(
        [
            ["Input", "", "input", "input", 1.0, 1.0, np.nan, np.nan, "none"],
            ["Block1", "SDSA", "V_S", "block.0.attn.q_lif", 0.25, 2e-5, 1e-5, 4e-5, "percentile"],
            ["Block1", "SDSA", "g(Q_S,K_S)", "block.0.attn.talking_heads_lif", 0.0, 0.0, 0.0, 0.1, "upper bound"],
            ["Head", "", "FC", "head_lif", 0.5, 0.5, 0.4, 0.6, "percentile"],
        ],
        columns=["part", "module", "tensor", "code", "T1", "average", "low", "high", "interval"],
    )
    table.attrs["caption"] = "Rates of a_b, 95 %"
    return table


def test_latex_golden():
    assert to_latex(small_table(), label="tab:rates") == (
        r"""\begin{table}[tbp]
\centering\scriptsize\setlength{\tabcolsep}{3pt}
\caption{Rates of a\_b, 95 \%}\label{tab:rates}

\smallskip
\begin{tabular}{@{}llllrrr@{}}
\toprule
Part & Module & Tensor & Code name & T1 & Average & Interval \\
\midrule
Input &  & -- & \texttt{input} & 1.0000 & 1.0000 & -- \\
\midrule
Block1 & SDSA & $V_S$ & \texttt{block.0.attn.q\_lif} & 0.2500 & 2.0e-5 & {[}1.0e-5, 4.0e-5{]} \\
 &  & $g$($Q_S$,$K_S$) & \texttt{block.0.attn.talking\_heads\_lif} & 0 & 0 & $\le$ 0.1000 \\
\midrule
Head &  & FC & \texttt{head\_lif} & 0.5000 & 0.5000 & {[}0.4000, 0.6000{]} \\
\bottomrule
\end{tabular}
\end{table}
"""
    )


def test_markdown_golden():
    assert to_markdown(small_table()) == (
        r"""Rates of a\_b, 95 %

| Part   | Module | Tensor       | Code name                        |     T1 | Average |         Interval |
| ------ | ------ | ------------ | -------------------------------- | -----: | ------: | ---------------: |
| Input  |        | –            | `input`                          | 1.0000 |  1.0000 |                – |
| Block1 | SDSA   | V\_S         | `block.0.attn.q_lif`             | 0.2500 |  2.0e-5 | [1.0e-5, 4.0e-5] |
| Block1 | SDSA   | g(Q\_S,K\_S) | `block.0.attn.talking_heads_lif` |      0 |       0 |         ≤ 0.1000 |
| Head   |        | FC           | `head_lif`                       | 0.5000 |  0.5000 | [0.4000, 0.6000] |
"""
    )


def test_long_tables_break_over_pages_and_wide_ones_into_panels(rates):
    assert to_latex(rate_table(rates(60, 4))).count(r"\begin{longtable}") == 1
    wide = to_latex(rate_table(rates(5, 16)))
    panels = re.findall(r"\\begin\{tabular\}\{@\{\}(l+r+)@\{\}\}", wide)
    assert len(panels) > 1 and sum(panel.count("r") for panel in panels) == 18
    for step in range(1, 17):
        assert len(re.findall(rf"\bT{step}\b", wide)) == 1


def test_every_line_of_a_latex_table_has_its_columns(profile, foreign):
    tables = [rate_table(profile), profile.energy(), profile.operations(), rate_table(foreign), foreign.operations()]
    for table in tables:
        for tabular in re.split(r"\\begin\{(?:tabular|longtable)\}", to_latex(table))[1:]:
            columns = len(re.match(r"\{@\{\}([lr]+)@", tabular).group(1))
            lines = [line for line in tabular.splitlines() if line.endswith(r"\\") and "caption" not in line]
            assert lines and {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 5 % of #1 {x} $y$", r"a\_b \& 5 \% of \#1 \{x\} \$y\$"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("ﬁne é µJ × 2", r"fine é $\mu$J $\times$ 2"),
        ("模", "{[}U+6A21{]}"),
        ("a\nb\tc", "a b c"),
    ],
)
def test_escape_latex(text, escaped):
    assert escape_latex(text) == escaped


def test_names_of_the_paper_are_set_as_there():
    assert paper_latex("SDSA_out(Vhat_S)") == r"SDSA\_out($\hat{V}_S$)"
    assert paper_latex("Q_S*K_S") == r"$Q_S \odot K_S$"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason=f"pdflatex is not installed; {LATEX}")
def test_latex_compiles_alone_and_inside_a_paper(profile, foreign, rates, tmp_path):
    tables = [to_latex(rate_table(profile), label="a"), to_latex(profile.energy(), "Energy é 模 _&%", "b")]
    tables += [to_latex(rate_table(foreign)), to_latex(foreign.operations()), to_latex(rate_table(rates(50, 16)))]
    (tmp_path / "table.tex").write_text(document(tables))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,longtable}\n"
        "\\begin{document}Before.\\input{table}After.\\end{document}\n"
    )
    for name in ("table", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
        assert name == "paper" or "Overfull" not in done.stdout


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (amount(339694.9), "339.7 k"),
        (amount(12), "12"),
        (amount(0.5), "0.5000"),
        (amount(7.1667), "7.167"),
        (amount(None), "–"),
        (energy_unit([2e-3, float("nan")])[0], "µJ"),
        (joules(6.45e-9), "6.45 pJ"),
        (joules(0.0), "0 J"),
        (rate(0.25), "0.2500"),
        (rate(0.0), "0"),
        (rate(2e-5), "2e-5"),
        (rate(6e-5), "0.0001"),
        (percent(0.00001), "<0.1 %"),
        (percent(0.0004), "<0.1 %"),
        (percent(0.0007), "0.1 %"),
        (percent(0.961), "96.1 %"),
        (significant(2.04639), "2.046"),
        (significant(float("nan")), "–"),
        (" ".join(with_limits(2.04639, 2.0023, 2.0896)), "2.046 [2.002, 2.090]"),
        (" ".join(with_limits(3.04, 0.31, 8.9)), "3.04 [0.31, 8.90]"),
        (" ".join(with_limits(9.9e-5, 9.6e-5, 1.02e-4)), "9.9e-5 [9.6e-5, 10.2e-5]"),  # one exponent in a row
        (" ".join(with_limits(0.012345, 0.0119, 0.0124)), "0.0123 [0.0119, 0.0124]"),
        (" ".join(with_limits(0.0012345, 0.0012, 0.00125)), "0.00123 [0.00120, 0.00125]"),
        (" ".join(with_limits(9.876e-4, 9.8e-4, 9.9e-4)), "9.9e-4 [9.8e-4, 9.9e-4]"),
        (with_limits(1.5, None, None)[1], ""),
        (" ".join(with_limits(12.1, 5.69, float("inf"))), "12.1 [5.7, no upper limit]"),
    ],
)
def test_numbers(made, text):
    assert made == text
