"""Examples to read and run; the package itself never imports them."""
