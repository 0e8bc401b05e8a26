"""OptCS reproduced: simulations of the released scripts and studies on real data."""
