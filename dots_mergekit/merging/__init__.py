"""The arithmetic of DoTS, and the merge method that mergekit knows by it."""
