"""Adapters of other libraries to `whyrank.Client`; each needs its library, by the extra of the same name."""
