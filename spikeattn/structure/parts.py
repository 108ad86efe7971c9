"""The parts of a network, as tables and names files have them."""

STEM, DOWNSAMPLING, CONV, QKV, PRODUCTS, PROJECTION, MLP1, MLP2, MIX, GATE, HEAD, REST = (
    "SPS", "downsampling", "conv", "QKV", "attention", "projection", "MLP1", "MLP2", "mixing", "gate", "head", "other",
)  # fmt: skip
PARTS = (STEM, DOWNSAMPLING, CONV, QKV, PRODUCTS, PROJECTION, MLP1, MLP2, MIX, GATE, HEAD, REST)
