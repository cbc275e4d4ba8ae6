"""A plugin whose light half cannot even be imported."""

raise RuntimeError("as ordered")
