"""Objects that Keras is to save."""
