"""Credit: how the error at the output travels to the nodes, and what pairs teach about the way."""
