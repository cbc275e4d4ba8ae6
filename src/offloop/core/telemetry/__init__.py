"""What the core records: pool events and histograms of durations."""
