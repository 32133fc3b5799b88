"""COCO archives to a YOLO dataset, a YOLO training, an exported segmentation model."""
