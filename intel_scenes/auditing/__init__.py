"""What is wrong with the images and labels of a folder."""
