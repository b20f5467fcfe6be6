"""Engines: who does the solving. `base` is the contract, `select` chooses."""
