"""``leyden ckpt``: looks into checkpoint files, compares, converts and checks them."""
