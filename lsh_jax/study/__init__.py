"""The evidence: candidates that are all trained to the end, and what would have picked the best.

`settings` says what is trained, `trajectories` trains it, `table` keeps what came out, `scores`
computes every judge from the table, `replay` searches on it instead of training anew.
"""
