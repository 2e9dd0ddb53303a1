"""Networks, assembled from cells; pure functions of their inputs, with no data, loss or training in them."""
