"""Views of labelled photographs to train on: what is changed about them and drawn into them."""
