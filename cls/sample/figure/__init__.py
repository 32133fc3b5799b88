"""The drawn people of the sample photo set."""
