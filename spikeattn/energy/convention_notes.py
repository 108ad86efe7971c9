"""The choices of a convention that a reader of an energy must know, for one network."""

from __future__ import annotations

from collections.abc import Iterator

from spikeattn.boundary.notes import Note
from spikeattn.energy.conventions import Convention
from spikeattn.energy.rules import multiplies, own_output, paper_qkv, roles_of, times_charged
from spikeattn.storage.ledger import Ledger


def notes_of(ledger: Ledger, convention: Convention) -> list[Note]:
    """First layer, labels that are absent, layers that could be one, and what is not counted."""
    roles = roles_of(ledger)
    notes = [*_first_layers(ledger, convention)]
    if convention.qkv_rate == "mean-output" and not any(paper_qkv(synapse, roles) for synapse in ledger.synapses):
        text = f"no layer of this model is labelled QKV: {convention.name} charges every layer by its own input"
        notes.append(Note.plain("no-qkv", text))
    if convention.layer_rate == "own-output" and not any(own_output(synapse, roles) for synapse in ledger.synapses):
        text = f"no layer bears the name of its output: {convention.name} charges every layer by its input"
        notes.append(Note.plain("no-own-output", text))
    if convention.batch_norm == "counted":
        text = "batch norms: one assumed after every layer but the classifier, two MACs per output element"
        notes.append(Note.plain("batch-norms", text))
    if convention.additions == "counted" and ledger.additions is None:
        text = (
            "residual additions and averages of numbers: this run does not hold them, so none is priced; profile again"
        )
        notes.append(Note.plain("additions-unknown", text))
    notes += _unmerged(ledger)
    if ledger.uncounted:
        names = ", ".join(f"{operation.name} ({operation.op})" for operation in ledger.uncounted)
        notes.append(Note.plain("not-counted", f"not counted: {names}"))
    return notes


def _first_layers(ledger: Ledger, convention: Convention) -> Iterator[Note]:
    """How each layer that reads the image is charged, and how often."""
    for synapse in ledger.synapses:
        tensor = ledger.tensor(synapse.input)
        if tensor.maker != "input":
            continue
        times = times_charged(ledger, synapse, convention)
        if not multiplies(tensor, convention):
            again = synapse.every_step if tensor.spikes else times > 1
            how = f"additions {'at every time step' if again else 'once per image'}"
            yield Note.plain("first-layer", f"first layer {synapse.name} ({tensor.kind} input): charged as {how}")
            continue
        why = "static input" if tensor.static else "input that changes with the time step"
        how = "once per image" if times == 1 else f"at each of the {times} time steps"
        rates = {"mac-output-rate": " x the rate after it"}
        if not tensor.static:
            rates["mac-input-rate"] = " x the share of non-zero inputs"
        rate = rates.get(convention.first_layer, "")
        yield Note.plain("first-layer", f"first layer {synapse.name} ({why}): charged as MACs{rate} {how}")


def _unmerged(ledger: Ledger) -> list[Note]:
    """Layers with nothing but linear maps between them, as RepConv has before its branches are merged."""
    dense = {s.name: s.dense_macs for s in ledger.synapses}
    composites = [[name for name in names if name in dense] for names in ledger.structure.get("composites", ())]
    composites = [names for names in composites if len(names) > 1]
    if not composites:
        return []
    layers = [name for names in composites for name in names]
    share = sum(dense[name] for name in layers) / max(sum(dense.values()), 1)
    several = "s" if len(composites) > 1 else ""
    text = (
        f"{len(layers)} layers in {len(composites)} group{several} have nothing but linear maps between them "
        f"(RepConv and its like), {share:.0%} of the dense MACs; they are counted as they run, in an ANN by hand too"
    )
    return [Note("unmerged", text)]
