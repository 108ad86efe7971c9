"""In how many bits the products of an int8 network add up: the cost tables that differ in nothing else.

Products of 8 bits overflow an accumulator of 8 bits after a few additions; hardware has 32 (N. Jouppi et al.,
In-Datacenter Performance Analysis of a Tensor Processing Unit, ISCA 2017). Tables of int8 with additions of 8 bits are
those of papers: they make a multiply-accumulate 7.7 additions, with 32 bits it is 3.
"""

from __future__ import annotations

from spikeattn.energy.costs import CostTable, get_costs

INT8 = "horowitz-45nm-int8-acc32"  # the default table of int8
_FAMILIES = ((INT8, "horowitz-45nm-int8"),)
_NARROW = ("7nm-int8",)  # no price of a 32-bit addition at 7 nm has been checked


def accumulators(table: CostTable) -> tuple[CostTable, ...]:
    """The tables under all of which a network must be the cheaper one before it "cannot lose".

    Returns:
        The package's tables of the same arithmetic with other accumulators, the table itself among them; the table
        alone where the accumulator is as wide as the operands (floating point) or the table is the user's; none where
        the package has an accumulator of 8 bits and no price of a wider one, so that nothing can be said.
    """
    for family in _FAMILIES:
        if table.name in family and table == get_costs(table.name):
            return tuple(map(get_costs, family))
    return () if table.name in _NARROW and table == get_costs(table.name) else (table,)


def said_of(name: str) -> str:
    """What a reader of a table with a narrow accumulator must know; "" of another table, or one of the user's."""
    if name in _NARROW:
        return "with an accumulator of 8 bits; nobody has checked the price of a wider one"
    wide = next((family[0] for family in _FAMILIES if name in family[1:]), None)
    return f"with an accumulator of 8 bits; {wide} has one of 32" if wide else ""
