"""A model in a vLLM engine whose weights become those of any recipe, without a restart."""
