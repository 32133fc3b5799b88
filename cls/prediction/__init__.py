"""Running a classifier on photos: runtimes behind one Protocol, whose people they look at, and the results."""
