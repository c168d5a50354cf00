"""What Keras's own training has to be replaced for."""
