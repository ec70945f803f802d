"""A merge as its mergekit YAML: read, checked, given other λ, planned, known again, written."""

from dots_mergekit.recipe.recipe import Recipe

__all__ = ["Recipe"]
