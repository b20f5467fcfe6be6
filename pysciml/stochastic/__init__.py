"""Stochastic and random differential equations."""
