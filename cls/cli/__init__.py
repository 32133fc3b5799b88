"""The commands of `cls`: options, the call, and what is printed; one module for each verb."""
