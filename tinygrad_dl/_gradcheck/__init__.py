"""The parts of `gradcheck`, which is in `checking.py`."""
