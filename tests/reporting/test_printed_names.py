"""Names of the paper in figures: subscripts and a hat, and nothing else of a text is taken for mathematics."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from spikeattn.reporting.figures.drawing import figure_style, to_svg
from spikeattn.reporting.figures.printed_names import plain_names, printed, set_names


@pytest.mark.parametrize(
    ("name", "mathematics", "plain"),
    [
        ("V_S", r"$\mathregular{V_S}$", "Vₛ"),
        ("g(Q_S,K_S)", r"g($\mathregular{Q_S}$,$\mathregular{K_S}$)", "g(Qₛ,Kₛ)"),
        ("Q_S*K_S", r"$\mathregular{Q_S}$ ⊙ $\mathregular{K_S}$", "Qₛ ⊙ Kₛ"),
        ("SDSA_out(Vhat_S)", r"SDSA_out($\mathregular{\hat{V}_S}$)", "SDSA_out(V\u0302ₛ)"),
        ("cost $5 of V_S", r"cost \$5 of $\mathregular{V_S}$", "cost $5 of Vₛ"),
        ("a$b_c$*d", "a$b_c$*d", "a$b_c$*d"),
        ("MY_V_S_layer", "MY_V_S_layer", "MY_V_S_layer"),
    ],
)
def test_names_are_set_and_other_text_is_not(name, mathematics, plain):
    assert printed(name) == mathematics and plain_names(name) == plain


def test_a_figure_has_a_smaller_s_and_keeps_dollars():
    with figure_style():
        figure = Figure(figsize=(2, 1))
        texts = [figure.text(0.1, 0.2, "V_S"), figure.text(0.1, 0.6, "a$b_c$")]
        set_names(texts)
        svg = to_svg(figure)
    shown = re.sub(r"<!--.*?-->", "", svg)  # matplotlib writes what it sets into a comment
    sizes = [float(size) for size in re.findall(r"<tspan[^>]*font-size: ([\d.]+)px", shown)]
    assert "V_S" not in shown and "a$b_c$" in shown
    assert len(sizes) == 2 and sizes[1] < sizes[0]
