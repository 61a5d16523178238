"""A modality of five leaves: a view is a row of 16 floats, read from a text of 16 numbers, with noise or without."""
