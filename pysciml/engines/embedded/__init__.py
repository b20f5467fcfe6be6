"""The engine for machines without Julia: SUNDIALS through CasADi, and torchdiffeq for eager torch."""
