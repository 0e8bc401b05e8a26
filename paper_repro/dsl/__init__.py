"""Regression on machine labels: the coverage study and the complaints re-analysed."""
