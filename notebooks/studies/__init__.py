"""What the notebooks claim, counted, over seeds, noise and both engines (`python -m notebooks.studies`)."""
