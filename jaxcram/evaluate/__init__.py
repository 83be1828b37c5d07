"""What a crammed embedding does to the model: tasks, and scores of their items."""
