"""Load, side by side and on loopback: this gateway, the limits of its place in the chain, and its peers.

Invariants: everything that a run starts it stops, by process id; nothing is measured while another entrant is under
load; ratios come from rounds that are next to each other, so that a noisy machine harms them least.
"""
