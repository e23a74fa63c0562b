"""The reader role: publishes what producers read, partition by partition."""
