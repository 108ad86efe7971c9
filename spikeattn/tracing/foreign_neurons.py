"""The table of neurons of other frameworks than SpikingJelly: snnTorch, norse, sinabs, BrainCog.

Kinds are known by the names of the classes that a neuron derives from, so no framework is imported. Which axes their
calls have, [B, ...], [T, B, ...] or [B, T, ...], is found on the run (FOUND), and so is what their spikes are multiples
of; what they hand out beside their spikes are membrane potentials and other numbers.
"""

from __future__ import annotations

from typing import Any

from spikeattn.tracing.neuron_kind import ALL, ARGUMENT, FOUND, ONE, OWN_SPIKES, STATE, InnerSynapse, NeuronKind

_SNNTORCH, _NORSE, _SINABS, _BRAINCOG = ("snntorch.",), ("norse.",), ("sinabs.",), ("braincog.base.node",)


def _kind(package: tuple[str, ...], name: str, *synapses: InnerSynapse, steps: str = FOUND, **facts: Any) -> NeuronKind:
    return NeuronKind(package, name, steps=steps, synapses=synapses, **facts)


# ---------------------------------------------------------------------------------------------------------- snnTorch
# With `init_hidden` the state stays in these buffers; `reset_mem` would keep their shape, so a changed batch its zeros.
_HIDDEN = ("mem", "syn", "spk", "syn_exc", "syn_inh")
_FED_BACK = InnerSynapse("recurrent.weight", OWN_SPIKES)  # all-to-all; one-to-one it is an element-wise factor
# An LSTM whose hidden state is the membrane potential, before it is compared with the threshold: real numbers.
_CELL = (InnerSynapse("lstm_cell.weight_ih", ARGUMENT), InnerSynapse("lstm_cell.weight_hh", STATE))

# Its input, spikes or numbers, and its membrane potential side by side.
_CONVOLVED = InnerSynapse("conv.weight", ARGUMENT)
# A torch.nn.RNN whose hidden state is the membrane potential; the matrix is whole also where only its diagonal is used.
_PARALLEL = (InnerSynapse("rnn.weight_ih_l0", ARGUMENT), InnerSynapse("rnn.weight_hh_l0", STATE))

# ------------------------------------------------------------------------------------------------------------- norse
# States are arguments and results, so nothing stays in a module.
_RECURRENT = (InnerSynapse("input_weights", ARGUMENT), InnerSynapse("recurrent_weights", OWN_SPIKES))

# ------------------------------------------------------------------------------------------------------------ sinabs
# [B, T, ...], or [B*T, ...] in its Squeeze layers. Where the batch size alone has changed, a layer draws its state at
# random from the earlier one, so only an empty state is a reset.
_KEPT = ("v_mem", "i_syn", "b", "spike_threshold")
_REC_CONNECT = InnerSynapse("rec_connect.*", OWN_SPIKES)

# The first kind that fits is that of a neuron.
FOREIGN = (
    _kind(_SNNTORCH, "RLeaky", _FED_BACK, state=_HIDDEN),
    _kind(_SNNTORCH, "RSynaptic", _FED_BACK, state=_HIDDEN),
    _kind(_SNNTORCH, "SLSTM", *_CELL, state=_HIDDEN),
    _kind(_SNNTORCH, "SConv2dLSTM", _CONVOLVED, state=_HIDDEN),
    _kind(_SNNTORCH, "SpikingNeuron", whole=True, state=_HIDDEN),
    _kind(_SNNTORCH, "LeakyParallel", *_PARALLEL, steps=ALL),
    *(_kind(_NORSE, name, whole=True, spiking=False) for name in ("LICell", "LI", "LIBoxCell", "LILinearCell")),
    _kind(_NORSE, "SNNRecurrentCell", *_RECURRENT, steps=ONE),
    _kind(_NORSE, "SNNRecurrent", *_RECURRENT, steps=ALL),
    _kind(_NORSE, "SNNCell", whole=True, steps=ONE),
    _kind(_NORSE, "SNN", whole=True, steps=ALL),
    _kind(_NORSE, "CobaLIFCell", *_RECURRENT),
    _kind(_NORSE, "LIFCorrelation"),
    _kind(_SINABS, "ExpLeak", spiking=False, state=_KEPT),
    *(_kind(_SINABS, f"{name}Recurrent", _REC_CONNECT, state=_KEPT) for name in ("LIF", "IAF", "ALIF")),
    _kind(_SINABS, "StatefulLayer", whole=True, state=_KEPT),
    _kind(_BRAINCOG, "BaseNode", whole=True, reset="n_reset"),
)
