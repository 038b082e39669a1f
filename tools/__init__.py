"""Programs for those who work on WhyRank itself."""
