"""The event loop underneath: background tasks, one-shot events, futures, thread affinity and fork safety."""
