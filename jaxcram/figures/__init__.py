"""Figures: rows in, matplotlib figure out, no science."""

# of the rows, which the figure of a run reads: known without matplotlib
RUN_COLUMNS = ("sample_id", "learning_rate", "seed", "stage_seq_len", "steps", "exact", "surprisal_bits")
