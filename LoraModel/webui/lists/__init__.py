"""The tables below the tab: the queue, and the experiments and adapters that there are."""
