"""Shrinking towards proportional odds: ten simulations and two data sets."""
