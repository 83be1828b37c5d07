"""What the paper asks of crammed embeddings, each a run on disk: evaluations, knockouts, reconstructions."""
