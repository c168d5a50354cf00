"""The paper's figures and tables made again: `python -m train.reproduce NAME`."""
