"""A merge for others: the model card with its evidence, the upload, the reproduction."""
