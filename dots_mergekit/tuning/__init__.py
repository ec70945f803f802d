"""The search for λ: queries, space, study, trials, front, choice, report."""
