"""Entry scripts of person segmentation: parse options, call one function, print."""
