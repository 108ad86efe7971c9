"""The order in which a NIR graph's nodes run in a time step, and the edges that wait for the next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spikeattn.errors import SpikeattnError

Edge = tuple[str, str]


def run_order(name: str, nodes: Sequence[str], edges: Collection[Edge], first: str, states: Collection[str]) -> tuple[
    list[str], set[Edge]
]:  # fmt: skip
    """Nodes in an order that has what each receives in front of it, and the edges that carry the step before.

    In a circle what a neuron hands back arrives one step later: of the neurons in it, that of the one furthest from
    the input, so that what leads forward does not wait.

    Args:
        name: of the file.
        first: the input.
        states: nodes that keep a state.

    Raises:
        SpikeattnError: a node that the input does not reach, a circle without a neuron.
    """
    far = _distances(edges, first)
    if lost := [node for node in nodes if node not in far]:
        raise SpikeattnError(f"{name}: nothing leads from the input {first!r} to node {lost[0]!r}")
    waiting: set[Edge] = set()
    while circle := _circle(nodes, [edge for edge in edges if edge not in waiting]):
        inside = [node for node in circle if node in states]
        if not inside:
            raise SpikeattnError(f"{name}: {' -> '.join(map(repr, circle))} is a circle without a neuron in it")
        last = max(inside, key=lambda node: (far[node], node))
        waiting |= {(source, target) for source, target in edges if source == last and target in circle}
    return _sorted(nodes, [edge for edge in edges if edge not in waiting], far), waiting


def _sorted(nodes: Sequence[str], edges: Sequence[Edge], far: Mapping[str, int]) -> list[str]:
    """Every node behind those that lead to it, the nearest to the input first."""
    sorter = TopologicalSorter({node: [s for s, target in edges if target == node] for node in nodes})
    sorter.prepare()
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=lambda node: (far[node], node))
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _distances(edges: Iterable[Edge], first: str) -> dict[str, int]:
    """Edges between the input and every node that it reaches."""
    far, queue = {first: 0}, deque([first])
    while queue:
        node = queue.popleft()
        for target in sorted(target for source, target in edges if source == node):
            if target not in far:
                far[target] = far[node] + 1
                queue.append(target)
    return far


def _circle(nodes: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """Nodes that all lead to one another; empty where no node leads back to itself."""
    try:
        TopologicalSorter({node: [s for s, target in edges if target == node] for node in nodes}).prepare()
        return []
    except CycleError:
        pass
    place = {node: index for index, node in enumerate(nodes)}
    rows, columns = zip(*((place[s], place[t]) for s, t in edges), strict=True)
    matrix = coo_matrix((np.ones(len(edges)), (rows, columns)), shape=(len(nodes), len(nodes)))
    _, groups = connected_components(matrix, connection="strong")
    for group in range(max(groups) + 1):
        members = [node for node in nodes if groups[place[node]] == group]
        if len(members) > 1 or (members[0], members[0]) in edges:
            return members
    raise AssertionError("a graph with a circle has a group of nodes that lead to one another")
