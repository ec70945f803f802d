"""What is wrong with a merge before it starts: the recipe, its checkpoints, this machine."""

from dots_mergekit.checking.check import check, require_mergeable
from dots_mergekit.checking.findings import Finding, Findings

__all__ = ["Finding", "Findings", "check", "require_mergeable"]
