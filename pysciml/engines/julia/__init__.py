"""Compiled right-hand sides on Julia's solvers and adjoints, through juliacall."""
