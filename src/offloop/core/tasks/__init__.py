"""Task admission, the table of unsettled tasks, checks of workers' answers, outcomes, and recovery after a crash."""
