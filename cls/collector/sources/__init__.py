"""Other sources of labelled photos; all end in one type, `LabelledPicture`."""
