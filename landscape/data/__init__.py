"""Readers of data sets from local files and packages; none touches the network."""
