"""Attention x energy: which joules go to tokens whose attention is no more than noise; what silencing them costs."""

from spikeattn.spurious.shares import SpuriousEnergy, spurious_energy
from spikeattn.spurious.silencing import silencing_curve

__all__ = ["SpuriousEnergy", "silencing_curve", "spurious_energy"]
