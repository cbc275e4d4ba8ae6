"""Records of the core: the event log, and histograms of durations."""
