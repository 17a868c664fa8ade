"""The small suite: pictures, letters, digits and charts on a grid, and a pretrained language model that reads them."""
