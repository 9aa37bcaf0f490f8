"""The search for the pruned network to train, over any task."""
