"""The ways in which the processes of a run come to be, and the watch over them."""
