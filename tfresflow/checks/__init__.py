"""What is given by a user, and what is wrong with it in one line."""
