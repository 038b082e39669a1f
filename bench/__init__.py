"""Programs that measure WhyRank. Each prints ratios to something run beside it, and names the machine."""
