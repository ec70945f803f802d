"""What task vectors of one base have in common and where they clash, before anything is merged."""
