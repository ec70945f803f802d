"""The table: candidates, tasks, results that are kept, baselines, and what is only noise."""
