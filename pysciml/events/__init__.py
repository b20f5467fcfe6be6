"""Solves with events: one solve from each event to the next, with what happens between them in torch."""

from __future__ import annotations

from pysciml.events.alone import check_alone
from pysciml.events.conditions import Conditions
from pysciml.events.segments import Machine, solve

__all__ = ["Conditions", "Machine", "check_alone", "solve"]
