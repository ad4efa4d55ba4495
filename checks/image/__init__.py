"""`make image-check`: the image is built without a Docker engine, and tried out."""
