"""Video files to decoded frames: which packets are needed, and the processes that decode them."""
