"""Our benchmarks, as lm-eval's task files: the example's arithmetic world, and the paper's.

A task is a `.yaml` of its own, a group one too; what several share has no such ending. Code that
they name by `!function` and data lie beside them. Names begin with `dots_`.
"""
