"""Training data and training of the person segmenter: COCO archives -> YOLO dataset -> training -> export."""
