"""The drawn surroundings of the sample photo set."""
