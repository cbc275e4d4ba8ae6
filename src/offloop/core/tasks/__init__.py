"""The life of a task: admission, the table of tasks, checks of a worker's answers, outcomes, and recovery after a crash."""
