"""The machine that a run uses: environment, JAX's configuration and caches, device mesh, processes."""
