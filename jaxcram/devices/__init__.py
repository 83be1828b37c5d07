"""What a run finds around it: the environment, JAX's configuration, other processes."""
