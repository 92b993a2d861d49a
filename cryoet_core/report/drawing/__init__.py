"""What pages are drawn with: plots, images, colours, words and tomogram slices."""
