"""Training runs: one process each, which the page only asks; the queue of voices is such a process too."""
