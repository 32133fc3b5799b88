"""Entry scripts of the guide: parse options, call one function, print."""
